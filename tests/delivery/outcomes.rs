//! The codes of failures, each brought about, and what their messages say.

use serde_json::{Value, json};

use crate::support::upstream::closed_port;
use crate::support::{Answer, Gateway, Setup, Ticket, Upstream, post};

const ONE_ATTEMPT: &str =
    "delivery = \"at-least-once\"\nretry = { attempts = 1 }\ntimeout = \"30s\"";

/// The error of an order with one attempt.
async fn error_of(setup: Setup) -> Value {
    let gateway = setup.route("POST /orders", ONE_ATTEMPT).start().await;
    let ticket = gateway.post_order().await;
    let document = gateway.timed_out_by_steps_of(5, &ticket).await;
    assert_eq!(document["status"], "failed", "{document}");
    document["error"].clone()
}

#[tokio::test]
async fn what_can_be_repeated_fails_with_a_code_that_says_why_its_only_attempt_did() {
    let unreachable = error_of(Setup::before_url(&format!("http://{}", closed_port().await))).await;
    assert_eq!(
        (&unreachable["code"], &unreachable["cause"]),
        (&json!("upstream-unreachable"), &Value::Null)
    );
    for (answer, code) in [
        (Answer::Never, "upstream-timeout"),
        (Answer::Drip, "upstream-timeout"),
        (Answer::Reset, "upstream-protocol"),
        (Answer::truncated(), "upstream-protocol"),
        (Answer::status(500), "upstream-status"),
        (Answer::status(300), "upstream-redirect"),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", answer.clone());
        let error = error_of(Setup::before(&upstream)).await;
        assert_eq!((&error["code"], &error["cause"]), (&json!(code), &Value::Null), "{answer:?}");
        let message = error["message"].as_str().unwrap();
        assert!(message.matches(". ").count() > 0, "what to do next is missing: {message}");
    }
}

#[tokio::test]
async fn a_serial_key_that_is_waited_for_holds_no_slot() {
    let upstream = Upstream::start().await;
    upstream.hold("/serial");
    let gateway = Setup::before(&upstream).set("engine", "slots = 2").start().await;
    let keyed = || post("/serial").field("Operation-Serial-Key", "k");
    let mut tickets: Vec<Ticket> = Vec::new();
    for _ in 0..4 {
        tickets.push(gateway.accept(keyed()).await);
    }
    upstream.until_received("/serial", 1).await;
    let other = gateway.accept(post("/other")).await;
    assert_eq!(gateway.settled(&other).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/serial").len(), 1);
    upstream.release("/serial");
    for ticket in &tickets {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn a_retry_by_hand_comes_with_the_key_that_the_client_chose() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::status(404)]);
    let gateway = Gateway::before(&upstream).await;
    let order = crate::support::gateway::order().field("Idempotency-Key", "of-the-client");
    let ticket = gateway.accept(order).await;
    let mut first = gateway.settled(&ticket).await;
    let retry = post(format!("/-/operations/{}/retry", ticket.id)).json(&json!({}));
    let successor = gateway.admin(retry).await.expect(202).json();
    assert_eq!(successor["retryOf"], *ticket.id);
    first["retriedBy"] = successor["id"].clone();
    let received = upstream.until_received("/orders", 2).await;
    for request in &received {
        assert_eq!(request.all("idempotency-key"), ["of-the-client"]);
    }
    assert_eq!(received[1].field("operation-id"), successor["id"].as_str());
    assert_eq!(received[1].body, received[0].body);
    assert_eq!(
        gateway.document(&ticket).await,
        first,
        "the first stays as it is, and names its successor"
    );
}
