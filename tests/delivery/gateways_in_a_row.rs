//! Two gateways in a row: the outer one follows the inner one.

use serde_json::{Value, json};

use super::following::accepted;
use crate::support::gateway::is_final;
use crate::support::{Answer, Gateway, Setup, Ticket, Upstream};

/// One gateway before another one, which is before this upstream.
async fn two_gateways(upstream: &Upstream) -> (Gateway, Gateway) {
    let inner = Gateway::before(upstream).await;
    let outer = Setup::before_url(&inner.origin()).start().await;
    (outer, inner)
}

/// Moves both clocks until the outer operation is final.
async fn settled_by_both(outer: &Gateway, inner: &Gateway, ticket: &Ticket) -> Value {
    outer
        .while_stepping(1, "a final state", || async {
            inner.advance(1);
            Some(outer.document(ticket).await).filter(is_final)
        })
        .await
}

#[tokio::test]
async fn two_gateways_in_a_row_lead_to_what_was_created() {
    let upstream = Upstream::start().await;
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    let created = format!("{}/orders/1", outer.origin());
    assert_eq!(document["createdLocation"], created);
    let end = outer.get(&ticket.monitor).await.expect(303);
    assert_eq!(end.field("location"), Some(&*created));
    assert_eq!(outer.get("/orders/1").await.expect(200).json(), json!({"shown": "/orders/1"}));
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn two_gateways_in_a_row_lead_to_the_recorded_answer() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).field("X-Own", "a").body("text/plain", "done"));
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(document["createdLocation"], Value::Null);
    let result = outer.get(&ticket.at("result")).await.expect(200);
    assert_eq!((result.text(), result.field("x-own")), ("done".to_owned(), Some("a")));
}

#[tokio::test]
async fn two_gateways_in_a_row_agree_on_a_failure() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(422).body("text/plain", "no"));
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "failed", "{document}");
    assert_eq!(document["error"]["code"], "upstream-status", "{document}");
    assert_eq!(document["responseStatus"], 422, "{document}");
    let result = outer.get(&ticket.at("result")).await.expect(422);
    assert_eq!((result.text(), result.field("upstream-status")), ("no".to_owned(), Some("422")));
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn two_gateways_in_a_row_agree_on_an_unknown_outcome() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Reset);
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "failed", "{document}");
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    let problem = outer.get(&ticket.at("result")).await.expect(424).json();
    // The inner gateway's answer, and not its document.
    assert_eq!(problem["type"], "urn:cloakroom:problem:no-answer", "{problem}");
    assert_eq!(problem["error"]["code"], "outcome-unknown", "{problem}");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

/// One gateway with such a route before another one that delivers at least once and waits for its
/// end by itself.
async fn before_a_repeating_one(upstream: &Upstream, lines: &str) -> (Gateway, Gateway) {
    let again = "delivery = \"at-least-once\"\n\
                 retry = { attempts = 3, min = \"1s\", max = \"1s\" }";
    let inner = Setup::before(upstream).route("POST /orders", again).max_response(1000);
    let inner = inner.start().await;
    let outer = Setup::before_url(&inner.origin()).route("POST /orders", lines).start().await;
    (outer, inner)
}

#[tokio::test]
async fn a_proxy_s_answer_that_a_gateway_behind_has_recorded_is_as_ambiguous_as_a_direct_one() {
    let (once, again) = ("", "delivery = \"at-least-once\"");
    let page = Answer::status(502).body("text/html", vec![b'x'; 2 << 10]);
    for (answer, lines, code) in [
        (Answer::status(502), once, "outcome-unknown"),
        (Answer::status(524), once, "outcome-unknown"),
        (page, once, "outcome-unknown"),
        (Answer::status(502), again, "upstream-status"),
        (Answer::status(521), once, "upstream-status"),
        (Answer::status(500), once, "upstream-status"),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", answer.clone());
        let (outer, inner) = before_a_repeating_one(&upstream, lines).await;
        let ticket = outer.post_order().await;
        let document = settled_by_both(&outer, &inner, &ticket).await;
        assert_eq!(document["error"]["code"], code, "{lines}: {document}");
    }
}

#[tokio::test]
async fn what_a_gateway_behind_calls_unprocessed_is_no_unknown_outcome() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(502));
    let inner = Setup::before(&upstream)
        .route("POST /orders", "delivery = \"at-least-once\"\nretry = { attempts = 1 }")
        .start()
        .await;
    let outer = Setup::before_url(&inner.origin())
        .set("upstreams.default", "unprocessed = [502]")
        .start()
        .await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["error"]["code"], "upstream-status", "{document}");
}

#[tokio::test]
async fn a_recheck_decides_about_what_a_gateway_behind_has_recorded() {
    for (says, status, code) in [
        (200, "succeeded", Value::Null),
        (500, "failed", json!("outcome-unknown")),
        (404, "failed", json!("attempts-exhausted")),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(502));
        upstream.on("/made", Answer::status(says).body("text/plain", "made"));
        let recheck = "recheck = \"GET /made?ref={operation_id}\"\n\
                       retry = { attempts = 2, min = \"1s\", max = \"1s\" }";
        let (outer, inner) = before_a_repeating_one(&upstream, recheck).await;
        let ticket = outer.post_order().await;
        let document = settled_by_both(&outer, &inner, &ticket).await;
        assert_eq!(document["status"], status, "{says}: {document}");
        assert_eq!(document["error"].get("code").unwrap_or(&Value::Null), &code, "{document}");
        if says == 200 {
            assert_eq!(outer.get(&ticket.at("result")).await.expect(200).text(), "made");
        }
    }
}

/// One gateway before another one that answers synchronously.
async fn before_a_synchronous_one(upstream: &Upstream, lines: &str) -> (Gateway, Gateway) {
    let sync = "mode = \"sync\"\nallow = [\"sync\"]";
    let inner = Setup::before(upstream).route("POST /orders", sync).start().await;
    let outer = Setup::before_url(&inner.origin()).route("POST /orders", lines).start().await;
    (outer, inner)
}

#[tokio::test]
async fn what_a_synchronous_gateway_behind_does_not_know_is_unknown() {
    for delivery in ["at-most-once", "at-least-once"] {
        for trouble in [Answer::Reset, Answer::truncated(), Answer::Raw(b"<html>".to_vec())] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", trouble.clone());
            let lines = format!("delivery = {delivery:?}");
            let (outer, _inner) = before_a_synchronous_one(&upstream, &lines).await;
            let ticket = outer.post_order().await;
            let document = outer.settled(&ticket).await;
            let error = &document["error"];
            assert_eq!(error["code"], "outcome-unknown", "{delivery} {trouble:?}: {document}");
            assert_eq!(error["cause"], "upstream-status", "{document}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("another gateway"), "{message}");
            let result = outer.get(&ticket.at("result")).await.expect(424).json();
            assert_eq!(result["type"], "urn:cloakroom:problem:no-answer", "{result}");
            assert_eq!(upstream.received_at("/orders").len(), 1);
        }
    }
}

#[tokio::test]
async fn a_recheck_decides_about_what_a_gateway_behind_does_not_know() {
    for (says, status) in [(200, "succeeded"), (500, "failed")] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::Reset);
        upstream.on("/made", Answer::status(says));
        let recheck = "recheck = \"GET /made?ref={idempotency_key}\"";
        let (outer, _inner) = before_a_synchronous_one(&upstream, recheck).await;
        let document = outer.settled(&outer.post_order().await).await;
        assert_eq!(document["status"], status, "{says}: {document}");
    }
}

#[tokio::test]
async fn a_424_of_a_service_means_what_it_says() {
    let told = json!({"type": "urn:cloakroom:problem:no-answer", "code": "outcome-unknown"});
    for answer in [
        Answer::status(424).body("application/xml", "<multistatus/>"),
        Answer::status(424).json(&told),
        Answer::status(424).field("Gateway-Origin", "upstream").json(&told),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", answer.clone());
        let gateway = Gateway::before(&upstream).await;
        let document = gateway.settled(&gateway.post_order().await).await;
        assert_eq!(document["error"]["code"], "upstream-status", "{answer:?}: {document}");
    }
}

#[tokio::test]
async fn a_failure_by_a_route_s_own_measure_is_none_of_a_gateway_in_front() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).body("text/plain", "a login page"));
    let inner = Setup::before(&upstream).route("POST /orders", "success = [201]").start().await;
    let outer = Setup::before_url(&inner.origin()).start().await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["status"], "failed", "{document}");
    assert_eq!(outer.get(&ticket.at("result")).await.expect(424).text(), "a login page");
}

#[tokio::test]
async fn two_gateways_behind_an_upstream_that_is_asynchronous_itself_follow_one_another() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", accepted("Location", "/jobs/1"));
    let done = Answer::status(303).field("Location", "/orders/7");
    upstream.script("/jobs/1", [accepted("Location", "/jobs/1"), done]);
    let (outer, inner) = two_gateways(&upstream).await;
    let ticket = outer.post_order().await;
    let document = settled_by_both(&outer, &inner, &ticket).await;
    assert_eq!(document["createdLocation"], format!("{}/orders/7", outer.origin()), "{document}");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}
