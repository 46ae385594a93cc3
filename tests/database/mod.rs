//! Gateways whose ledger is a PostgreSQL database: alone, in a fleet, and without it.

mod lost;
mod moving;
mod shutdown;
mod starting;

use std::collections::BTreeSet;

use crate::support::gateway::{Process, order};
use crate::support::postgres::{Cluster, cluster};
use crate::support::time::{spawn, until};
use crate::support::{Answer, Setup, Ticket, Upstream, get, post};

#[tokio::test]
async fn a_request_is_accepted_carried_out_and_its_result_collected() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).body("text/plain", &b"\x00\xff made"[..]));
    let gateway = Setup::before(&upstream).on(&cluster().database()).start().await;
    let ticket = gateway.post_order().await;
    let answer = gateway.until_finished(&ticket).await;
    assert!(answer.expect_field("location").ends_with(&ticket.at("result")));
    let result = gateway.get(&ticket.at("result")).await.expect(200);
    assert_eq!(result.body, b"\x00\xff made");
    assert_eq!(gateway.listed().await, 1);
    let canceled = gateway.accept(order().field("Operation-Delay", "60")).await;
    gateway.send(post(canceled.at("cancel"))).await.expect(200);
    assert_eq!(gateway.document(&canceled).await["status"], "canceled");
}

#[tokio::test]
async fn a_restart_finds_what_was_accepted_and_what_had_ended() {
    let upstream = Upstream::start().await;
    // What the killed one might have in flight counts for its lease.
    let setup = Setup::before(&upstream).on(&cluster().database()).set("store", "lease = \"2s\"");
    let mut process = setup.spawn().await;
    let ended = process.post_order().await;
    process.settled(&ended).await;
    let queued = process.accept(order().field("Operation-Delay", "2")).await;
    process.kill().await;
    let process = process.again().await;
    assert_eq!(process.document(&ended).await["status"], "succeeded");
    assert_eq!(process.settled(&queued).await["status"], "succeeded");
    assert_eq!(upstream.received().len(), 2);
}

/// Two gateways on one database, of which each carries out the route that is named after
/// the other.
async fn two(upstream: &Upstream) -> [Process; 2] {
    let database = cluster().database();
    let gateway = |paused: &str| {
        let carried_out = if paused == "one" { "two" } else { "one" };
        Setup::before(upstream)
            .on(&database)
            .set(&format!("queues.{paused}"), "paused = true")
            .set(&format!("queues.{carried_out}"), "paused = false")
            .route("POST /one", "queue = \"one\"")
            .route("POST /two", "queue = \"two\"")
    };
    [gateway("one").spawn().await, gateway("two").spawn().await]
}

#[tokio::test]
async fn what_one_gateway_accepts_another_finishes_and_wakes_its_poller() {
    let upstream = Upstream::start().await;
    let [one, two] = two(&upstream).await;
    for (accepts, path) in [(&one, "/one"), (&two, "/two")] {
        upstream.hold(path);
        let ticket = accepts.accept(post(path)).await;
        upstream.until_received(path, 1).await;
        let (front, wait) = (accepts.public, get(&*ticket.monitor).field("Prefer", "wait=9"));
        let polled = spawn(async move { wait.send(front).await });
        accepts.until_status(&ticket, "running").await;
        upstream.release(path);
        polled.await.unwrap().expect(303);
    }
    for path in ["/one", "/two"] {
        assert_eq!(upstream.received_at(path).len(), 1);
    }
}

#[tokio::test]
async fn what_runs_on_another_gateway_is_called_off_there() {
    let upstream = Upstream::start().await;
    let [one, _two] = two(&upstream).await;
    upstream.hold("/one");
    let ticket = one.accept(post("/one")).await;
    upstream.until_received("/one", 1).await;
    one.send(post(ticket.at("cancel"))).await.expect(202);
    assert_eq!(one.settled(&ticket).await["status"], "canceled");
    until("the dropped connection", || async { (upstream.dropped() > 0).then_some(()) }).await;
}

#[tokio::test]
async fn twenty_identical_requests_to_two_gateways_are_one_operation() {
    let upstream = Upstream::start().await;
    let gateways = two(&upstream).await;
    let keyed = || post("/one").field("Idempotency-Key", "k").body("text/plain", "the same");
    let sent: Vec<_> = (0..20)
        .map(|number| (keyed(), gateways[number % 2].public))
        .map(|(request, front)| spawn(async move { request.send(front).await }))
        .collect();
    let mut ids = BTreeSet::new();
    let mut replayed = 0;
    for answer in sent {
        let answer = answer.await.unwrap().expect(202);
        replayed += usize::from(answer.field("idempotency-replayed").is_some());
        ids.insert(Ticket::of(&answer).id);
    }
    assert_eq!((ids.len(), replayed), (1, 19));
    until("one call", || async { (!upstream.received_at("/one").is_empty()).then_some(()) }).await;
    assert_eq!(gateways[0].listed().await, 1);
}

#[tokio::test]
async fn without_its_database_a_gateway_answers_503_and_goes_on_when_it_is_back() {
    let upstream = Upstream::start().await;
    let cluster = Cluster::start();
    let gateway = Setup::before(&upstream).on(&cluster.database()).spawn().await;
    let before = gateway.post_order().await;
    gateway.settled(&before).await;
    upstream.hold("/orders");
    let during = gateway.post_order().await;
    upstream.until_received("/orders", 2).await;
    cluster.stop();
    upstream.release("/orders");
    for request in [order(), get(&*before.monitor)] {
        let refused = gateway.send(request).await.expect(503);
        let seconds: u64 = refused.expect_field("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds));
    }
    cluster.start_again();
    let after = until("an acceptance", || async {
        let answer = gateway.send(order()).await;
        (answer.status == 202).then(|| Ticket::of(&answer))
    });
    let after = after.await;
    for ticket in [&before, &during, &after] {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
    assert_eq!(upstream.received().len(), 3);
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let url = "postgres://u:hunter2@127.0.0.1:1/x";
    for arguments in [
        &["config", "print", "--store", url][..],
        &["doctor", "--store", url, "--upstream", "http://127.0.0.1:1"],
    ] {
        let mut command = crate::support::gateway::cloakroom();
        let output = command.args(arguments).output().await.unwrap();
        for shown in [output.stdout, output.stderr] {
            let shown = String::from_utf8_lossy(&shown).into_owned();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[tokio::test]
async fn monitors_that_do_not_answer_keep_those_of_no_other_upstream_waiting() {
    let (silent, well) = (Upstream::start().await, Upstream::start().await);
    let follow = |job: &str| Answer::status(202).field("Location", job).field("Retry-After", "1");
    silent.on("/silent", follow("/jobs/1"));
    silent.on("/jobs/1", Answer::Never);
    well.on("/orders", follow("/jobs/2"));
    well.on("/jobs/2", Answer::status(200));
    let gateway = Setup::before(&well)
        .on(&cluster().database())
        .set("upstreams.other", &format!("url = {:?}", silent.url()))
        .route("POST /silent", "upstream = \"other\"")
        .route("POST /orders", "")
        .spawn()
        .await;
    // More than may be asked at once.
    for _ in 0..100 {
        gateway.accept(post("/silent")).await;
    }
    silent.until_received("/jobs/1", 48).await;
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.settled(&ticket).await["responseStatus"], 200);
    assert!(silent.received_at("/jobs/1").len() < 100, "all at once");
}
