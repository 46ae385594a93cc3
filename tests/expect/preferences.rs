//! `Prefer` (RFC 7240): honoured where it can be, never a reason to refuse.

use super::{BOTH, with_mode};
use crate::support::gateway::order;
use crate::support::time::spawn;
use crate::support::{Answer, Gateway, Upstream};

/// The members of `Preference-Applied`, without spaces.
fn applied(answer: &crate::support::Response) -> Vec<String> {
    let lines = answer.all("preference-applied").join(",").replace(' ', "");
    lines.split([',', ';']).filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn respond_async_gets_202_where_that_is_allowed() {
    for mode in ["async", "hybrid", "sync"] {
        let upstream = Upstream::start().await;
        upstream.hold("/orders");
        let gateway = with_mode(&upstream, mode, BOTH).start().await;
        let answer = gateway.send(order().field("Prefer", "respond-async")).await.expect(202);
        assert_eq!(applied(&answer), ["respond-async"], "{mode}");
    }
}

#[tokio::test]
async fn respond_async_is_answered_synchronously_without_complaint_where_only_that_is_allowed() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "sync", &["sync"]).start().await;
    let answer = gateway.send(order().field("Prefer", "respond-async")).await.expect(201);
    assert!(!applied(&answer).contains(&"respond-async".to_owned()), "{answer:?}");
}

#[tokio::test]
async fn respond_async_with_a_wait_is_202_after_that_many_seconds() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let request = order().field("Prefer", "respond-async, wait=5");
    waits_for(&gateway, &upstream, request, 5).await;
}

/// Sends and checks that the 202 comes after `seconds`, not before.
async fn waits_for(
    gateway: &Gateway,
    upstream: &Upstream,
    request: crate::support::Request,
    seconds: u64,
) {
    let address = gateway.public;
    let waiting = spawn(async move { request.send(address).await });
    upstream.until_received("/orders", 1).await;
    gateway.advance(seconds - 1);
    gateway.get("/-/operations").await.expect(200);
    assert!(!waiting.is_finished(), "before its time");
    // The wait may have been measured from a little later than the acceptance.
    let looked =
        gateway.while_stepping(1, "the 202", || async { waiting.is_finished().then_some(()) });
    looked.await;
    let answer = waiting.await.unwrap().expect(202);
    assert!(applied(&answer).iter().any(|member| member.starts_with("wait")), "{answer:?}");
}

#[tokio::test]
async fn respond_async_with_a_wait_gets_the_upstreams_answer_if_that_is_sooner() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let answer = gateway.send(order().field("Prefer", "respond-async, wait=5")).await.expect(201);
    assert_eq!(answer.field("gateway-origin"), Some("upstream"));
}

#[tokio::test]
async fn what_the_upstream_has_honoured_is_named_beside_what_the_gateway_has() {
    let upstream = Upstream::start().await;
    let answer = Answer::status(200).field("Preference-Applied", "return=minimal");
    upstream.on("/orders", answer.field("Preference-Applied", "handling=strict"));
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let wished = "respond-async, wait=5, return=minimal, handling=strict";
    let answer = gateway.send(order().field("Prefer", wished)).await.expect(200);
    assert_eq!(applied(&answer), ["return=minimal", "handling=strict", "wait=5"]);
    assert_eq!(upstream.only().all("prefer"), ["return=minimal, handling=strict"]);
}

#[tokio::test]
async fn a_wait_alone_makes_an_asynchronous_route_hybrid_with_that_limit() {
    for mode in ["async", "hybrid"] {
        let upstream = Upstream::start().await;
        upstream.hold("/orders");
        let gateway = with_mode(&upstream, mode, BOTH).start().await;
        waits_for(&gateway, &upstream, order().field("Prefer", "wait=20"), 20).await;
    }
}

#[tokio::test]
async fn a_wait_alone_on_a_synchronous_route_limits_its_wait() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = with_mode(&upstream, "sync", &["sync"]).start().await;
    let (address, request) = (gateway.public, order().field("Prefer", "wait=5"));
    let waiting = spawn(async move { request.send(address).await });
    upstream.until_received("/orders", 1).await;
    // Far less than the route's own timeout of 15 minutes.
    let looked =
        gateway.while_stepping(1, "the 424", || async { waiting.is_finished().then_some(()) });
    looked.await;
    waiting.await.unwrap().problem(424);
}

#[tokio::test]
async fn a_wait_is_capped_at_45_seconds() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let (address, request) = (gateway.public, order().field("Prefer", "wait=86400"));
    let waiting = spawn(async move { request.send(address).await });
    upstream.until_received("/orders", 1).await;
    gateway.advance(44);
    gateway.get("/-/operations").await.expect(200);
    assert!(!waiting.is_finished(), "before its time");
    // Two looks at 45 s are enough, an uncapped wait would take a thousand.
    for _ in 0..2 {
        gateway.advance(45);
        gateway.get("/-/operations").await.expect(200);
    }
    waiting.await.unwrap().expect(202);
}

#[tokio::test]
async fn return_minimal_leaves_the_document_out_of_the_202() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let answer = gateway.send(order().field("Prefer", "return=minimal")).await.expect(202);
    assert_eq!(answer.body, b"");
    assert_eq!(applied(&answer), ["return=minimal"]);
    answer.expect_field("location");
}

#[tokio::test]
async fn every_preference_that_was_honoured_is_listed() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let request = order()
        .field("Prefer", "respond-async; foo=bar, return=\"minimal\"")
        .field("Prefer", "handling=lenient");
    let answer = gateway.send(request).await.expect(202);
    let mut applied = applied(&answer);
    applied.sort();
    assert_eq!(applied, ["respond-async", "return=minimal"]);
}

#[tokio::test]
async fn malformed_and_unknown_preferences_are_ignored_and_not_listed() {
    for preference in [
        "wait=abc",
        "wait=-1",
        "wait=",
        "wait=1.5",
        ";;;",
        ",,,=",
        "\"unfinished",
        "return=maximal",
        "tea, milk=2",
        "wait=99999999999999999999999",
        "",
    ] {
        let upstream = Upstream::start().await;
        let gateway = with_mode(&upstream, "async", BOTH).start().await;
        let (address, request) = (gateway.public, order().field("Prefer", preference));
        let answer = spawn(async move { request.send(address).await });
        let looked =
            gateway.while_stepping(10, preference, || async { answer.is_finished().then_some(()) });
        looked.await;
        let answer = answer.await.unwrap();
        assert!(matches!(answer.status, 201 | 202), "{preference}: {answer:?}");
        if !preference.contains("999") {
            assert_eq!(answer.field("preference-applied"), None, "{preference}");
            assert_eq!(answer.status, 202, "{preference}");
        }
    }
}
