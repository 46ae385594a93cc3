//! The default for POST: never again once the upstream may have seen it.

use serde_json::Value;

use crate::support::gateway::order;
use crate::support::upstream::closed_port;
use crate::support::{Answer, Gateway, Request, Setup, Upstream, get, post};

/// Has the upstream answer so, and gives the final document after moving the clock far.
async fn after(answer: Answer) -> (Upstream, Gateway, Value) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", answer);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    let document = gateway.timed_out_by_steps_of(60, &ticket).await;
    (upstream, gateway, document)
}

/// Whatever is due is carried out before a later request is; so afterwards, the number
/// of requests is all that there will be.
async fn sent(upstream: &Upstream, gateway: &Gateway) -> usize {
    gateway.advance(24 * 3600);
    let last = gateway.accept(post("/last")).await;
    gateway.settled(&last).await;
    upstream.received_at("/orders").len()
}

#[tokio::test]
async fn every_end_between_the_first_byte_and_a_complete_answer_is_an_unknown_outcome() {
    for (answer, cause) in [
        (Answer::Reset, "upstream-protocol"),
        (Answer::Close, "upstream-protocol"),
        (Answer::truncated(), "upstream-protocol"),
        (Answer::Raw(b"this is no HTTP\r\n\r\n".to_vec()), "upstream-protocol"),
        (Answer::Raw(b"HTTP/1.1 20".to_vec()), "upstream-protocol"),
        (Answer::Never, "upstream-timeout"),
        (Answer::Drip, "upstream-timeout"),
    ] {
        let (upstream, gateway, document) = after(answer.clone()).await;
        assert_eq!(document["status"], "failed", "{answer:?}");
        assert_eq!(document["error"]["code"], "outcome-unknown", "{answer:?}: {document}");
        assert_eq!(document["error"]["cause"], cause, "{answer:?}: {document}");
        let message = document["error"]["message"].as_str().unwrap();
        assert!(message.contains("delivery = \"at-least-once\""), "{message}");
        assert_eq!(sent(&upstream, &gateway).await, 1, "{answer:?}");
    }
}

#[tokio::test]
async fn an_unreachable_upstream_is_tried_again_because_nothing_was_sent() {
    let address = closed_port().await;
    let gateway = Setup::before_url(&format!("http://{address}")).start().await;
    let ticket = gateway.post_order().await;
    let tried = |document: &Value| document["attempts"].as_u64() >= Some(1);
    gateway.until_document("an attempt", &ticket, tried).await;
    let upstream = Upstream::start_on(address).await;
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["status"], "succeeded");
    assert!(document["attempts"].as_u64() >= Some(2), "{document}");
    let attempt = upstream.only().expect_field("operation-attempt").to_owned();
    assert_eq!(attempt, document["attempts"].to_string());
}

#[tokio::test]
async fn an_upstream_that_stays_unreachable_fails_after_ten_attempts() {
    let address = closed_port().await;
    let gateway = Setup::before_url(&format!("http://{address}")).start().await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled_by_steps_of(60, &ticket).await;
    assert_eq!(document["error"]["code"], "attempts-exhausted", "{document}");
    assert_eq!(document["error"]["cause"], "upstream-unreachable");
    assert_eq!(document["attempts"], 10);
}

#[tokio::test]
async fn a_refusal_is_tried_again() {
    for refusal in [
        Answer::status(425),
        Answer::status(429),
        Answer::status(429).field("Retry-After", "2"),
        Answer::status(503).field("Retry-After", "2"),
    ] {
        let upstream = Upstream::start().await;
        upstream.script("/orders", [refusal.clone(), refusal.clone()]);
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["status"], "succeeded", "{refusal:?}");
        assert_eq!(upstream.received().len(), 3, "{refusal:?}");
    }
}

#[tokio::test]
async fn no_other_answer_is_tried_again() {
    for status in [301, 307, 400, 404, 408, 409, 422, 500, 501, 503] {
        let (upstream, gateway, document) = after(Answer::status(status)).await;
        assert_eq!(document["status"], "failed", "{status}");
        let code = if status < 400 { "upstream-redirect" } else { "upstream-status" };
        assert_eq!(document["error"]["code"], code, "{status}");
        assert_eq!(document["responseStatus"], status);
        assert_eq!(sent(&upstream, &gateway).await, 1, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_a_proxy_in_between_may_have_given_leaves_the_outcome_unknown() {
    for status in [502, 504] {
        let answer = Answer::status(status).body("text/plain", "of the proxy");
        let (upstream, gateway, document) = after(answer).await;
        let error = &document["error"];
        assert_eq!(error["code"], "outcome-unknown", "{document}");
        assert_eq!(error["cause"], "upstream-status");
        assert_eq!(document["responseStatus"], status);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&status.to_string()) && message.contains("unprocessed"));
        assert!(!message.to_lowercase().contains("retry"), "{message}");
        let unknown = gateway.admin(get("/-/operations?unknown=true")).await.expect(200);
        assert!(unknown.text().contains(document["id"].as_str().unwrap()), "{unknown:?}");
        assert_eq!(sent(&upstream, &gateway).await, 1, "{status}");
    }
}

#[tokio::test]
async fn what_an_upstream_is_known_not_to_have_processed_is_a_plain_failure() {
    for (status, code) in [(502, "upstream-status"), (504, "outcome-unknown")] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(status));
        let gateway =
            Setup::before(&upstream).set("upstreams.default", "unprocessed = [502]").start().await;
        let document = gateway.settled(&gateway.post_order().await).await;
        assert_eq!(document["error"]["code"], code, "{document}");
        upstream.only();
    }
}

#[tokio::test]
async fn whatever_a_refusal_says_of_when_to_come_again_it_is_tried_again() {
    for status in [425, 429, 503] {
        for unreadable in ["1.5", "soon", "-1", "Tue, 99 Nov 2023 22:13:50 GMT", ""] {
            let upstream = Upstream::start().await;
            let refusal = Answer::status(status).field("Retry-After", unreadable);
            upstream.script("/orders", [refusal.clone(), refusal]);
            let gateway = Gateway::before(&upstream).await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            assert_eq!(document["status"], "succeeded", "{status} {unreadable}: {document}");
            assert_eq!(upstream.received().len(), 3, "{status} {unreadable}");
        }
    }
}

#[tokio::test]
async fn it_is_the_default_for_post_and_patch_and_not_for_idempotent_methods() {
    for (method, sends) in [("POST", 1), ("PATCH", 1), ("PUT", 2), ("DELETE", 2)] {
        let upstream = Upstream::start().await;
        upstream.script("/things/7", [Answer::Reset, Answer::status(200)]);
        let gateway =
            Setup::before(&upstream).route(&format!("{method} /things/{{id}}"), "").start().await;
        let ticket = gateway.accept(Request::new(method, "/things/7")).await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        let status = if sends == 1 { "failed" } else { "succeeded" };
        assert_eq!(document["status"], status, "{method}");
        assert_eq!(upstream.received().len(), sends, "{method}");
    }
}

#[tokio::test]
async fn it_uses_no_pooled_connection_that_was_idle_over_a_second() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for round in 1..=3 {
        let ticket = gateway.post_order().await;
        assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
        assert_eq!(upstream.received().last().unwrap().connection, round);
        gateway.advance(2);
    }
}

#[tokio::test]
async fn an_upstream_that_closes_idle_connections_costs_no_operation() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::ThenClose(Box::new(Answer::Orders)));
    let gateway = Gateway::before(&upstream).await;
    for _ in 0..20 {
        let ticket = gateway.post_order().await;
        gateway.settled(&ticket).await;
        gateway.advance(2);
        let document = gateway.document(&ticket).await;
        assert_eq!(document["status"], "succeeded", "{document}");
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    for status in [100, 102, 103] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Interim(vec![status, status], Box::new(Answer::Orders)));
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.accept(order()).await;
        assert_eq!(gateway.settled(&ticket).await["responseStatus"], 201, "{status}");
    }
}

#[tokio::test]
async fn the_promise_of_its_acceptance_stays_when_the_configuration_changes() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Reset);
    let delivery = |mode: &str| {
        Setup::before(&upstream)
            .route("POST /orders", &format!("delivery = {mode:?}"))
            .route("POST /last", "")
    };
    let gateway = delivery("at-most-once").start().await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let gateway = gateway.restart_with(delivery("at-least-once")).await;
    let document = gateway.settled_by_steps_of(30, &ticket).await;
    assert_eq!(document["error"]["code"], "outcome-unknown");
    assert_eq!(sent(&upstream, &gateway).await, 1);
}
