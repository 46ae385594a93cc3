//! The modes of a route and the two families of expectations.

use super::{BOTH, with_mode};
use crate::support::gateway::order;
use crate::support::time::spawn;
use crate::support::{Answer, Gateway, Request, Response, Ticket, Upstream};

/// Sends beside the test, for answers that have to be waited for.
fn send_beside(gateway: &Gateway, request: Request) -> tokio::task::JoinHandle<Response> {
    let address = gateway.public;
    spawn(async move { request.send(address).await })
}

#[tokio::test]
async fn a_request_that_asks_for_nothing_gets_the_mode_of_its_route() {
    for (mode, status) in [("async", 202), ("hybrid", 201), ("sync", 201)] {
        let upstream = Upstream::start().await;
        let gateway = with_mode(&upstream, mode, BOTH).start().await;
        let answer = gateway.send(order()).await;
        assert_eq!(answer.status, status, "{mode}");
    }
}

#[tokio::test]
async fn a_hybrid_answer_is_waited_for_as_long_as_the_route_says_then_it_is_202() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = with_mode(&upstream, "hybrid", BOTH).start().await;
    let waiting = send_beside(&gateway, order());
    upstream.until_received("/orders", 1).await;
    gateway.advance(9);
    let probe = gateway.get("/-/operations").await.expect(200);
    assert!(!waiting.is_finished(), "{}", probe.text());
    gateway.while_stepping(1, "the 202", || async { waiting.is_finished().then_some(()) }).await;
    let ticket = Ticket::of(&waiting.await.unwrap().expect(202));
    upstream.release("/orders");
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn expecting_202_gets_it_at_once_on_any_route_that_allows_it() {
    for mode in ["async", "hybrid", "sync"] {
        for field in ["Expect", "Operation-Expect"] {
            let upstream = Upstream::start().await;
            upstream.hold("/orders");
            let gateway = with_mode(&upstream, mode, BOTH).start().await;
            // The clock stands still and the upstream does not answer: only at once is in time.
            gateway.accept(order().field(field, "202-accepted")).await;
        }
    }
}

#[tokio::test]
async fn expecting_a_synchronous_answer_gets_what_the_upstream_really_answers() {
    let expectations =
        ["200-ok", "201-created", "204-no-content", "200-ok, 201-created", "200-ok/204-no-content"];
    for expectation in expectations {
        for (answer, status) in [
            (Answer::Orders, 201),
            (Answer::status(204), 204),
            (Answer::status(404).body("text/plain", "no such article"), 404),
            (Answer::status(500), 500),
        ] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", answer);
            let gateway = with_mode(&upstream, "async", BOTH).start().await;
            let answer = gateway.send(order().field("Expect", expectation)).await.expect(status);
            assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{expectation}");
            upstream.only();
        }
    }
}

#[tokio::test]
async fn an_expectation_outside_of_what_the_route_allows_is_417_and_nothing_is_stored_or_sent() {
    for (allow, expectation) in [
        (&["sync"][..], "202-accepted"),
        (&["async"][..], "200-ok"),
        (&["async"][..], "201-created"),
        (&["async"][..], "204-no-content"),
        (BOTH, "tea"),
        (BOTH, "202-accepted, tea"),
        (BOTH, "200-ok/201-created/tea"),
    ] {
        for field in ["Expect", "Operation-Expect"] {
            let upstream = Upstream::start().await;
            let mode = allow[0];
            let gateway = with_mode(&upstream, mode, allow).start().await;
            gateway.send(order().field(field, expectation)).await.problem(417);
            assert_eq!(gateway.listed().await, 0, "{field}: {expectation}");
            // What comes after it is carried out, and is all that the upstream sees.
            gateway.send(order().field("Idempotency-Key", "after")).await;
            let received = upstream.until_received("/orders", 1).await;
            assert_eq!(received.len(), 1);
            assert!(received[0].expect_field("idempotency-key").contains("after"));
        }
    }
}

#[tokio::test]
async fn an_unknown_expectation_is_told_which_ones_are_supported() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let problem = gateway.send(order().field("Expect", "tea")).await.problem(417).to_string();
    for supported in ["202-accepted", "200-ok", "201-created", "204-no-content", "100-continue"] {
        assert!(problem.contains(supported), "{supported} in {problem}");
    }
}

#[tokio::test]
async fn both_families_together_are_hybrid() {
    for expectation in ["202-accepted, 201-created", "200-ok/202-accepted"] {
        let upstream = Upstream::start().await;
        let gateway = with_mode(&upstream, "async", BOTH).start().await;
        gateway.send(order().field("Expect", expectation)).await.expect(201);
        upstream.hold("/orders");
        let waiting = send_beside(&gateway, order().field("Expect", expectation));
        upstream.until_received("/orders", 2).await;
        gateway
            .while_stepping(1, "the 202", || async { waiting.is_finished().then_some(()) })
            .await;
        waiting.await.unwrap().expect(202);
    }
}

#[tokio::test]
async fn expectations_on_several_lines_count_together() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    for (one, two) in [("201-created", "202-accepted"), ("202-accepted", "201-created")] {
        gateway.send(order().field("Expect", one).field("Expect", two)).await.expect(201);
    }
    for (one, two) in [("tea", "202-accepted"), ("202-accepted", "tea")] {
        gateway.send(order().field("Expect", one).field("Expect", two)).await.problem(417);
    }
    let request = order().field("Expect", "202-accepted").field("Operation-Expect", "tea");
    gateway.send(request).await.problem(417);
}

#[tokio::test]
async fn an_expectation_is_read_in_any_case() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    gateway.send(order().field("eXPECT", "201-Created")).await.expect(201);
}

#[tokio::test]
async fn where_expect_and_prefer_disagree_expect_wins() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    let request = order().field("Expect", "201-created").field("Prefer", "respond-async");
    let answer = gateway.send(request).await.expect(201);
    assert_eq!(answer.field("preference-applied"), None);
}

#[tokio::test]
async fn no_expectation_ever_reaches_the_upstream() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    for (done, expectation) in ["202-accepted", "201-created"].into_iter().enumerate() {
        for field in ["Expect", "Operation-Expect"] {
            gateway.send(order().field(field, expectation)).await;
        }
        for request in upstream.until_received("/orders", 2 * (done + 1)).await {
            assert_eq!(request.field("expect"), None);
            assert_eq!(request.field("operation-expect"), None);
        }
    }
}
