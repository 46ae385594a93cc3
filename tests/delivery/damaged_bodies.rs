//! Bodies with a part missing in the ledger.

use crate::support::gateway::Gateway;
use crate::support::postgres::cluster;
use crate::support::{Answer, Request, Setup, Upstream, get, post, time};

/// A gateway on a database of its own, and that database's name.
async fn started(upstream: &Upstream, route: &str) -> (Gateway, String) {
    let database = cluster().database();
    let name = database.rsplit('/').next().unwrap().to_owned();
    let setup = Setup::before(upstream).on(&database).route("POST /orders", route);
    (setup.set("queues.held", "max_depth = 100").start().await, name)
}

fn large() -> Request {
    post("/orders").body("text/plain", vec![b'x'; 700_000])
}

async fn hold(gateway: &Gateway, verb: &str) {
    let ask = post(format!("/-/queues/held/{verb}")).field("Content-Type", "application/json");
    gateway.admin(ask).await.expect(200);
}

#[tokio::test]
async fn a_request_whose_body_is_gone_is_not_sent_and_the_upstream_is_not_blamed() {
    let upstream = Upstream::start().await;
    let (gateway, name) = started(&upstream, "queue = \"held\"").await;
    hold(&gateway, "pause").await;
    let ticket = gateway.accept(large()).await;
    cluster().sql(&name, "DELETE FROM pieces WHERE number = 1");
    hold(&gateway, "resume").await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "unreadable", "{document}");
    assert_eq!(document["attempts"], 0, "{document}");
    assert_eq!(upstream.received().len(), 0);
    let metrics = gateway.admin(get("/metrics")).await.expect(200).text();
    assert!(metrics.contains("cloakroom_unreadable_operations_total{outcome=\"failed\"}"));
}

#[tokio::test]
async fn a_body_of_another_length_that_is_found_while_it_is_sent_is_no_fault_of_the_upstream() {
    const SHORT: &str = "UPDATE pieces SET octets = substr(octets, 1, 5) WHERE number = 1";
    const LONG: &str = "UPDATE pieces SET octets = octets || '\\x78' WHERE number = 2";
    for (delivery, damage, code, cause) in [
        ("at-most-once", SHORT, "outcome-unknown", Some("unreadable")),
        ("at-least-once", SHORT, "unreadable", None),
        ("at-most-once", LONG, "outcome-unknown", Some("unreadable")),
        ("at-least-once", LONG, "unreadable", None),
    ] {
        let upstream = Upstream::start().await;
        let route =
            format!("queue = \"held\"\ndelivery = {delivery:?}\nretry = {{ attempts = 1 }}");
        let (gateway, name) = started(&upstream, &route).await;
        hold(&gateway, "pause").await;
        let ticket = gateway.accept(large()).await;
        cluster().sql(&name, damage);
        hold(&gateway, "resume").await;
        let document = gateway.settled(&ticket).await;
        let error = &document["error"];
        assert_eq!((&error["code"], error["cause"].as_str()), (&code.into(), cause), "{document}");
    }
}

/// Has pieces from that number on be out of reach, as they are while a database is away.
fn out_of_reach(name: &str, from: u32) {
    cluster().sql(
        name,
        &format!(
            "ALTER TABLE pieces RENAME TO stored_pieces; \
             CREATE FUNCTION reach(it bytea) RETURNS bytea STABLE LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'out of reach' USING ERRCODE = '57014'; END $$; \
             CREATE VIEW pieces AS SELECT body, number, CASE WHEN number >= {from} THEN reach(octets) \
             ELSE octets END AS octets, node, written_at FROM stored_pieces"
        ),
    );
}

fn within_reach(name: &str) {
    let back = "DROP VIEW pieces; ALTER TABLE stored_pieces RENAME TO pieces";
    cluster().sql(name, back);
}

#[tokio::test]
async fn a_body_that_is_out_of_reach_for_a_while_is_sent_once_it_is_there() {
    for (delivery, from) in [("at-most-once", 0), ("at-least-once", 0), ("at-least-once", 1)] {
        let upstream = Upstream::start().await;
        let route =
            format!("queue = \"held\"\ndelivery = {delivery:?}\nretry = {{ attempts = 1 }}");
        let (gateway, name) = started(&upstream, &route).await;
        hold(&gateway, "pause").await;
        let ticket = gateway.accept(large()).await;
        out_of_reach(&name, from);
        hold(&gateway, "resume").await;
        let cut = async || gateway.document(&ticket).await["resumes"].as_u64().filter(|it| *it > 0);
        gateway.while_stepping(1, "an attempt that was cut", cut).await;
        within_reach(&name);
        let document = gateway.timed_out_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{delivery} from {from}: {document}");
        let whole = upstream.received().iter().filter(|it| it.body.len() == 700_000).count();
        assert_eq!(whole, 1, "{delivery} from {from}");
    }
}

#[tokio::test]
async fn a_short_outage_while_a_body_is_sent_cuts_nothing() {
    let upstream = Upstream::start().await;
    let (gateway, name) = started(&upstream, "queue = \"held\"\ntimeout = \"1m\"").await;
    hold(&gateway, "pause").await;
    let ticket = gateway.accept(large()).await;
    out_of_reach(&name, 1);
    hold(&gateway, "resume").await;
    let running = async || {
        let document = gateway.document(&ticket).await;
        (document["status"] == "running").then_some(())
    };
    time::until("the attempt", running).await;
    within_reach(&name);
    let document = gateway.timed_out_by_steps_of(1, &ticket).await;
    assert_eq!((&document["status"], &document["attempts"]), (&"succeeded".into(), &1.into()));
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_out_of_reach_when_a_part_has_been_sent_leaves_at_most_once_open() {
    let upstream = Upstream::start().await;
    let (gateway, name) = started(&upstream, "queue = \"held\"").await;
    hold(&gateway, "pause").await;
    let ticket = gateway.accept(large()).await;
    out_of_reach(&name, 1);
    hold(&gateway, "resume").await;
    let document = gateway.timed_out_by_steps_of(1, &ticket).await;
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    assert_eq!(document["attempts"], 1, "{document}");
    let standing = gateway.admin(get("/-/queues")).await.expect(200).json();
    assert_eq!(standing["upstreams"][0]["breaker"]["state"], "closed", "{standing}");
}

#[tokio::test]
async fn a_result_whose_body_is_gone_is_a_problem_and_no_success() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).body("text/plain", vec![b'y'; 700_000]));
    let (gateway, name) = started(&upstream, "").await;
    let ticket = gateway.accept(post("/orders")).await;
    gateway.settled(&ticket).await;
    let result = ticket.at("result");
    assert_eq!(gateway.get(&result).await.expect(200).body.len(), 700_000);
    cluster().sql(&name, "DELETE FROM pieces WHERE number = 1");
    let problem = gateway.get(&result).await.problem(500);
    assert!(!problem.to_string().contains("piece"), "{problem}");
    gateway.send(get(&result).field("Range", "bytes=0-9")).await.problem(500);
    gateway.send(get(&result).field("Range", "bytes=-9")).await.problem(500);
    let head = gateway.send(Request::new("HEAD", &result)).await.expect(500);
    assert!(head.body.is_empty(), "{head:?}");
}

#[tokio::test]
async fn an_answer_whose_body_is_gone_is_a_problem_where_a_client_waits_for_it() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).body("text/plain", vec![b'y'; 700_000]));
    let (gateway, name) = started(&upstream, "mode = \"sync\"").await;
    let keyed = || post("/orders").field("Idempotency-Key", "one");
    assert_eq!(gateway.send(keyed()).await.expect(200).body.len(), 700_000);
    assert_eq!(gateway.send(keyed()).await.expect(200).body.len(), 700_000);
    cluster().sql(&name, "DELETE FROM pieces WHERE number = 1");
    gateway.send(keyed()).await.problem(500);
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn requests_that_the_ledger_has_lost_leave_the_breaker_closed() {
    let upstream = Upstream::start().await;
    let route = "queue = \"held\"\ndelivery = \"at-least-once\"\nretry = { attempts = 1 }";
    let (gateway, name) = started(&upstream, route).await;
    hold(&gateway, "pause").await;
    let mut tickets = Vec::new();
    // More than the breaker wants before it judges by a share.
    for _ in 0..24 {
        tickets.push(gateway.accept(large()).await);
    }
    cluster().sql(&name, "UPDATE pieces SET octets = substr(octets, 1, 5) WHERE number = 1");
    hold(&gateway, "resume").await;
    for ticket in &tickets {
        let document = gateway.settled_by_steps_of(1, ticket).await;
        assert_eq!(document["error"]["code"], "unreadable", "{document}");
    }
    let standing = gateway.admin(get("/-/queues")).await.expect(200).json();
    assert_eq!(standing["upstreams"][0]["breaker"]["state"], "closed", "{standing}");
}
