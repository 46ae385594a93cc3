//! An upstream that answers 202 with a monitor of its own.

use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Request, Setup, Ticket, Upstream, post};

fn accepted(field: &str, monitor: &str) -> Answer {
    Answer::status(202).field(field, monitor).field("Retry-After", "2")
}

/// An operation that waits for `/jobs/1` of its upstream.
async fn waiting(upstream: &Upstream) -> (Gateway, Ticket) {
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    upstream.on("/jobs/1", accepted("Location", "/jobs/1"));
    let gateway = Gateway::before(upstream).await;
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    (gateway, ticket)
}

#[tokio::test]
async fn it_is_followed_until_it_is_done_and_nothing_is_resent() {
    for field in ["Location", "Operation-Location"] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", accepted(field, "/jobs/1"));
        let done = Answer::status(200).json(&json!({"done": true}));
        upstream.script("/jobs/1", [accepted("Location", "/jobs/1"), done]);
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.until_status(&ticket, "waiting").await;
        assert_eq!(document["waitingFor"], "upstream");
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{field}: {document}");
        let result = gateway.get(&ticket.at("result")).await.expect(200);
        assert_eq!(result.json(), json!({"done": true}));
        assert_eq!(upstream.received_at("/orders").len(), 1);
        let polls = upstream.received_at("/jobs/1");
        assert_eq!(polls.len(), 2);
        assert!(polls.iter().all(|poll| poll.method == "GET"), "{polls:?}");
    }
}

#[tokio::test]
async fn it_is_asked_as_often_as_its_retry_after_says() {
    let upstream = Upstream::start().await;
    upstream
        .on("/orders", Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "20"));
    upstream.on("/jobs/1", Answer::status(200));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let document = gateway.until_status(&ticket, "waiting").await;
    let due = document["nextAttemptAt"].as_str().map(str::to_owned);
    gateway.advance(19);
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert!(upstream.received_at("/jobs/1").is_empty(), "due at {due:?}");
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["status"], "succeeded");
}

#[tokio::test]
async fn its_retry_after_is_kept_between_1_and_60_seconds() {
    let upstream = Upstream::start().await;
    let slow = Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "86400");
    upstream.on("/orders", slow);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    gateway.advance(61);
    gateway.settled(&ticket).await;
    let eager = Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "0");
    upstream.on("/orders", eager);
    let ticket = gateway.post_order().await;
    gateway.until_status(&ticket, "waiting").await;
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert_eq!(gateway.document(&ticket).await["status"], "waiting", "without a pause");
    gateway.settled_by_steps_of(1, &ticket).await;
}

#[tokio::test]
async fn while_it_waits_it_holds_no_slot() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    upstream.on("/jobs/1", accepted("Location", "/jobs/1"));
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "max_in_flight = 1").start().await;
    for _ in 0..3 {
        let ticket = gateway.post_order().await;
        gateway.until_status(&ticket, "waiting").await;
    }
    let other = gateway.accept(post("/other")).await;
    assert_eq!(gateway.settled(&other).await["status"], "succeeded");
}

#[tokio::test]
async fn a_monitor_that_ends_in_an_error_is_a_failure() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    upstream.on("/jobs/1", Answer::status(422).body("text/plain", "no"));
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["error"]["code"], "upstream-status", "{document}");
    assert_eq!(document["responseStatus"], 422);
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn trouble_while_asking_is_no_answer() {
    for trouble in [Answer::Reset, Answer::status(503), Answer::Close, Answer::truncated()] {
        let upstream = Upstream::start().await;
        let (gateway, ticket) = waiting(&upstream).await;
        let asked = upstream.received_at("/jobs/1").len();
        upstream.script("/jobs/1", [trouble.clone(), trouble.clone()]);
        gateway
            .while_stepping(1, "two more questions", || async {
                (upstream.received_at("/jobs/1").len() >= asked + 2).then_some(())
            })
            .await;
        upstream.on("/jobs/1", Answer::status(200));
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{trouble:?}: {document}");
        assert_eq!(upstream.received_at("/orders").len(), 1);
    }
}

#[tokio::test]
async fn following_ends_with_the_deadline() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    upstream.on("/jobs/1", accepted("Location", "/jobs/1"));
    let gateway =
        Setup::before(&upstream).route("POST /orders", "deadline = \"30s\"").start().await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled_by_steps_of(5, &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn after_a_restart_the_following_goes_on() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    let gateway = gateway.restart().await;
    assert_eq!(gateway.document(&ticket).await["status"], "waiting");
    upstream.on("/jobs/1", Answer::status(200));
    assert_eq!(gateway.settled_by_steps_of(1, &ticket).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn a_monitor_on_another_origin_is_not_followed_and_the_202_is_final() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    for answer in [
        accepted("Location", &format!("{}/jobs/1", other.url())),
        Answer::status(202).body("text/plain", "will do"),
    ] {
        upstream.on("/orders", answer);
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled(&ticket).await;
        assert_eq!(document["status"], "succeeded");
        assert_eq!(document["responseStatus"], 202);
    }
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn other_origins_can_be_allowed() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    upstream.on("/orders", accepted("Location", &format!("{}/jobs/1", other.url())));
    let gateway = Setup::before(&upstream)
        .set("upstreams.default", &format!("follow = [{:?}]", other.url()))
        .start()
        .await;
    let ticket = gateway.post_order().await;
    let document: Value = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["responseStatus"], 200, "{document}");
    assert_eq!(other.received_at("/jobs/1").len(), 1);
}

#[tokio::test]
async fn a_waiting_operation_can_be_canceled() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    gateway.send(post(ticket.at("cancel"))).await.expect(200);
    let asked = upstream.received_at("/jobs/1").len();
    gateway.advance(600);
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert_eq!(upstream.received_at("/jobs/1").len(), asked);
}

#[tokio::test]
async fn one_that_is_just_being_asked_about_can_be_canceled_and_what_it_says_then_counts_no_more() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    upstream.on("/jobs/1", Answer::status(200).body("text/plain", vec![b'x'; 700_000]));
    upstream.hold("/jobs/1");
    let asked = upstream.received_at("/jobs/1").len();
    let being_asked = || async { (upstream.received_at("/jobs/1").len() > asked).then_some(()) };
    gateway.while_stepping(1, "a question", being_asked).await;
    let document = gateway.send(post(ticket.at("cancel"))).await.expect(200).json();
    assert_eq!(document["status"], "canceled");
    upstream.release("/jobs/1");
    // What comes behind it shows that the answer was dealt with.
    upstream.on("/orders", Answer::Orders);
    let after = gateway.post_order().await;
    gateway.settled(&after).await;
    assert_eq!(gateway.document(&ticket).await, document);
    gateway.advance(600);
    let later = gateway.post_order().await;
    gateway.settled(&later).await;
    assert_eq!(upstream.received_at("/jobs/1").len(), asked + 1);
}

#[tokio::test]
async fn a_waiting_operation_can_be_deleted() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = waiting(&upstream).await;
    gateway.send(Request::new("DELETE", &*ticket.monitor)).await.expect(204);
    gateway.get(&ticket.monitor).await.problem(410);
    assert_eq!(gateway.document(&ticket).await["status"], "canceled");
}
