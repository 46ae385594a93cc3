//! A synchronous request is an operation like any other.

use super::{BOTH, with_mode};
use crate::support::gateway::{is_final, operations_of, order, path_of};
use crate::support::time::{self, spawn};
use crate::support::upstream::closed_port;
use crate::support::{Answer, Connection, Gateway, Request, Setup, Ticket, Upstream, post};

fn synchronous() -> crate::support::Request {
    order().field("Expect", "201-created")
}

/// The document of the only operation, once there is one.
async fn only_operation(gateway: &Gateway) -> serde_json::Value {
    time::until("one operation", || async {
        let list = gateway.get("/-/operations").await.expect(200).json();
        operations_of(&list).pop()
    })
    .await
}

#[tokio::test]
async fn it_is_recorded_and_answered_with_its_id_and_its_document() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let answer = gateway.send(synchronous()).await.expect(201);
    let document = gateway
        .get(crate::support::gateway::path_of(answer.expect_field("operation-location")))
        .await
        .expect(200)
        .json();
    assert_eq!(document["id"], answer.expect_field("operation-id"));
    assert_eq!(document["status"], "succeeded");
    assert_eq!(document["responseStatus"], 201);
    assert_eq!(answer.json(), serde_json::json!({"order": 1}));
    assert_eq!(answer.field("location"), Some(&*format!("{}/orders/1", gateway.origin())));
    assert_eq!(upstream.only().expect_field("operation-id"), answer.expect_field("operation-id"));
}

#[tokio::test]
async fn if_the_client_goes_away_it_still_finishes() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_raw(synchronous().bytes(gateway.public)).await;
    upstream.until_received("/orders", 1).await;
    drop(connection);
    let running = only_operation(&gateway).await;
    assert_eq!(running["status"], "running");
    upstream.release("/orders");
    time::until("its success", || async {
        (only_operation(&gateway).await["status"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!(upstream.dropped(), 0);
}

#[tokio::test]
async fn it_takes_the_next_permit_ahead_of_its_queue() {
    let upstream = Upstream::start().await;
    upstream.hold("/first");
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "max_in_flight = 1").start().await;
    gateway.accept(post("/first")).await;
    upstream.until_received("/first", 1).await;
    for _ in 0..3 {
        gateway.accept(post("/queued")).await;
    }
    let address = gateway.public;
    let urgent = post("/urgent").field("Expect", "201-created");
    let urgent = spawn(async move { urgent.send(address).await });
    time::until("five operations", || async { (gateway.listed().await == 5).then_some(()) }).await;
    upstream.release("/first");
    urgent.await.unwrap().expect(201);
    upstream.until_received("/queued", 3).await;
    assert_eq!(upstream.received()[1].target, "/urgent");
}

#[tokio::test]
async fn its_first_complete_answer_is_final_even_on_a_route_that_retries() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(503).field("Retry-After", "1"));
    let gateway = Setup::before(&upstream)
        .route("POST /orders", "delivery = \"at-least-once\"")
        .route("POST /next", "")
        .start()
        .await;
    let answer = gateway.send(synchronous()).await.expect(503);
    assert_eq!(answer.field("gateway-origin"), Some("upstream"));
    gateway.advance(600);
    let next = gateway.accept(post("/next")).await;
    gateway.settled(&next).await;
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn a_failure_in_which_nothing_was_sent_is_tried_again_within_the_wait() {
    let address = closed_port().await;
    let gateway = Setup::before_url(&format!("http://{address}")).start().await;
    let public = gateway.public;
    let waiting = spawn(async move { synchronous().send(public).await });
    let begun = || async { (only_operation(&gateway).await["attempts"] != 0).then_some(()) };
    time::until("a first attempt", begun).await;
    let upstream = Upstream::start_on(address).await;
    gateway.while_stepping(1, "its answer", || async { waiting.is_finished().then_some(()) }).await;
    waiting.await.unwrap().expect(201);
    upstream.only();
}

#[tokio::test]
async fn a_failure_in_which_something_may_have_been_sent_is_not_tried_again() {
    for delivery in ["at-most-once", "at-least-once"] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Reset);
        let gateway = Setup::before(&upstream)
            .route("POST /orders", &format!("delivery = {delivery:?}"))
            .route("POST /next", "")
            .start()
            .await;
        let answer = gateway.send(synchronous()).await;
        assert!(answer.status >= 400, "{answer:?}");
        assert_eq!(answer.field("gateway-origin"), Some("cloakroom"));
        gateway.advance(600);
        let next = gateway.accept(post("/next")).await;
        gateway.settled(&next).await;
        assert_eq!(upstream.received_at("/orders").len(), 1, "{delivery}");
    }
}

#[tokio::test]
async fn when_the_time_runs_out_it_is_424_with_the_monitor_and_the_operation_goes_on() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = with_mode(&upstream, "sync", &["sync"]).start().await;
    let public = gateway.public;
    let request = synchronous().field("Prefer", "wait=3");
    let waiting = spawn(async move { request.send(public).await });
    upstream.until_received("/orders", 1).await;
    gateway.while_stepping(1, "the 424", || async { waiting.is_finished().then_some(()) }).await;
    let answer = waiting.await.unwrap();
    assert_eq!(answer.field("retry-after"), None);
    let ticket = Ticket::of(&answer);
    assert!(answer.problem(424).to_string().contains("Idempotency-Key"));
    assert_eq!(gateway.document(&ticket).await["status"], "running");
    upstream.release("/orders");
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    upstream.only();
}

#[tokio::test]
async fn a_synchronous_route_waits_up_to_its_timeout() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let lines = "mode = \"sync\"\nallow = [\"sync\"]\ntimeout = \"30s\"";
    let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
    let public = gateway.public;
    let waiting = spawn(async move { order().send(public).await });
    upstream.until_received("/orders", 1).await;
    gateway.advance(29);
    gateway.get("/-/operations").await.expect(200);
    assert!(!waiting.is_finished());
    gateway.while_stepping(1, "an end", || async { waiting.is_finished().then_some(()) }).await;
    assert!(waiting.await.unwrap().status >= 400);
}

#[tokio::test]
async fn however_it_ends_the_answer_names_the_operation_and_where_its_document_is() {
    for ending in [Answer::status(204), Answer::status(404), Answer::status(500), Answer::Reset] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", ending.clone());
        let gateway = with_mode(&upstream, "async", BOTH).start().await;
        let answer = gateway.send(synchronous()).await;
        let id = answer.expect_field("operation-id");
        let own = path_of(answer.expect_field("operation-location"));
        let document = gateway.get(own).await.expect(200).json();
        assert_eq!(document["id"], id);
        assert!(is_final(&document), "the answer came before its commit: {ending:?} {document}");
    }
}

#[tokio::test]
async fn its_key_makes_a_repeat_the_same_operation_and_sends_nothing() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(500).body("text/plain", "broken"));
    let gateway = with_mode(&upstream, "sync", BOTH).start().await;
    let keyed = || order().field("Idempotency-Key", "k");
    let first = gateway.send(keyed()).await.expect(500);
    let again = gateway.send(keyed()).await.expect(500);
    assert_eq!(again.text(), "broken");
    assert_eq!(again.field("operation-id"), first.field("operation-id"));
    upstream.only();
}

#[tokio::test]
async fn where_something_may_have_been_sent_and_there_is_no_answer_it_is_no_5xx() {
    for delivery in ["at-most-once", "at-least-once"] {
        for ending in [
            Answer::Reset,
            Answer::truncated(),
            Answer::status(200).body("text/plain", vec![0; 4096]),
        ] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", ending.clone());
            let lines = format!("mode = \"sync\"\ndelivery = {delivery:?}");
            let setup = Setup::before(&upstream).max_response(1024).route("POST /orders", &lines);
            let answer = setup.start().await.send(order()).await;
            assert_eq!(answer.field("retry-after"), None);
            let problem = answer.problem(424);
            assert_eq!(problem["type"], "urn:cloakroom:problem:no-answer", "{ending:?}");
            upstream.only();
        }
    }
}

#[tokio::test]
async fn a_proxy_in_between_is_passed_on_as_it_is_and_leaves_the_outcome_unknown() {
    for status in [502, 504] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(status).body("text/plain", "of the proxy"));
        let lines = "mode = \"sync\"\nrecheck = \"GET /made/{operation_id}\"";
        let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
        let answer = gateway.send(order()).await.expect(status);
        assert_eq!(answer.text(), "of the proxy");
        assert_eq!(answer.field("gateway-origin"), Some("upstream"));
        let document = only_operation(&gateway).await;
        assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
        upstream.only();
    }
}

#[tokio::test]
async fn a_replay_never_carries_retry_after() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(500).field("Retry-After", "7"));
    let gateway = with_mode(&upstream, "sync", BOTH).start().await;
    let keyed = || order().field("Idempotency-Key", "k");
    assert_eq!(gateway.send(keyed()).await.expect(500).field("retry-after"), Some("7"));
    let again = gateway.send(keyed()).await.expect(500);
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    assert_eq!(again.field("retry-after"), None);
    upstream.only();
}

#[tokio::test]
async fn an_end_that_asks_to_come_again_frees_the_key() {
    for (status, retry_after, freed) in [
        (425, None, true),
        (429, None, true),
        (429, Some("7"), true),
        (503, Some("7"), true),
        (503, Some("1.5"), true),
        (503, None, false),
        (500, Some("7"), false),
    ] {
        let upstream = Upstream::start().await;
        let refusal = Answer::status(status);
        let refusal =
            retry_after.into_iter().fold(refusal, |it, value| it.field("Retry-After", value));
        upstream.script("/orders", [refusal]);
        let gateway = with_mode(&upstream, "sync", BOTH).start().await;
        let keyed = || order().field("Idempotency-Key", "k");
        let first = gateway.send(keyed()).await.expect(status);
        assert_eq!(first.field("retry-after"), retry_after);
        let again = gateway.send(keyed()).await;
        let replayed = again.field("idempotency-replayed");
        assert_eq!(replayed.is_none(), freed, "{status} {retry_after:?}");
        assert_eq!(again.status, if freed { 201 } else { status });
    }
}

#[tokio::test]
async fn where_nothing_could_be_sent_while_the_client_waits_it_is_a_5xx_and_the_key_is_free() {
    let address = closed_port().await;
    // Far more time than the steps of the clock add up to while the attempts are made.
    let lines = "mode = \"sync\"\ntimeout = \"4h\"";
    let setup = Setup::before_url(&format!("http://{address}")).route("POST /orders", lines);
    let gateway = setup.start().await;
    let public = gateway.public;
    let keyed = || order().field("Idempotency-Key", "k");
    let waiting = spawn(async move { keyed().send(public).await });
    gateway.while_stepping(1, "its answer", || async { waiting.is_finished().then_some(()) }).await;
    let problem = waiting.await.unwrap().problem(502);
    assert_eq!(problem["cause"], "upstream-unreachable", "{problem}");
    let upstream = Upstream::start_on(address).await;
    let waiting = spawn(async move { keyed().send(public).await });
    gateway.while_stepping(1, "its answer", || async { waiting.is_finished().then_some(()) }).await;
    let answer = waiting.await.unwrap().expect(201);
    assert_eq!(answer.field("idempotency-replayed"), None);
    upstream.only();
}

#[tokio::test]
async fn a_head_tells_the_length_that_the_upstream_told_or_none() {
    let upstream = Upstream::start().await;
    let lines = "mode = \"sync\"\nallow = [\"sync\"]";
    let gateway = Setup::before(&upstream).route("* /reports/{id}", lines).start().await;
    upstream.on("/reports/known", Answer::status(200).body("text/plain", "x".repeat(1234)));
    let raw = |text: &str| Answer::Raw(format!("{text}\r\nConnection: close\r\n\r\n").into_bytes());
    upstream.on("/reports/unknown", raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain"));
    upstream.on("/reports/none", raw("HTTP/1.1 204 No Content"));
    for (id, status, length) in
        [("known", 200, Some("1234")), ("unknown", 200, None), ("none", 204, None)]
    {
        let head = Request::new("HEAD", format!("/reports/{id}")).field("Idempotency-Key", id);
        for _ in 0..2 {
            // The second one is a repeat.
            let mut connection = Connection::open(gateway.public).await;
            let answer = connection.send(&head).await.expect(status);
            assert_eq!(answer.field("content-length"), length, "{id}: {answer:?}");
            // The connection goes on right behind the head.
            connection.send(&head).await.expect(status);
        }
    }
    let whole = gateway.get("/reports/known").await.expect(200);
    assert_eq!(whole.field("content-length"), Some("1234"));
}
