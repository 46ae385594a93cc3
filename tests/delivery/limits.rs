//! Timeouts, deadlines, sizes, slots.

use serde_json::Value;

use crate::support::gateway::order;
use crate::support::{Answer, Gateway, Setup, Ticket, Upstream, post, time};

/// Moves the clock by seconds until the operation has ended, and tells how many.
async fn seconds_until_the_end(gateway: &Gateway, ticket: &Ticket) -> (u64, Value) {
    let mut seconds = 0;
    let probe = || {
        seconds += 1;
        async {
            let document = gateway.document(ticket).await;
            crate::support::gateway::is_final(&document).then_some(document)
        }
    };
    let document = gateway.while_stepping(1, "the end", probe).await;
    (seconds, document)
}

async fn never_answered(lines: &str, request: crate::support::Request) -> (u64, Value) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Never);
    let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
    let ticket = gateway.accept(request).await;
    upstream.until_received("/orders", 1).await;
    let (seconds, document) = seconds_until_the_end(&gateway, &ticket).await;
    upstream.only();
    (seconds, document)
}

#[tokio::test]
async fn an_attempt_ends_with_its_timeout() {
    let (seconds, document) = never_answered("timeout = \"30s\"", order()).await;
    assert!(seconds >= 30, "{seconds}");
    assert_eq!(document["error"]["cause"], "upstream-timeout");
}

#[tokio::test]
async fn a_client_may_lower_the_timeout_but_not_raise_it() {
    let lower = order().field("Operation-Timeout", "5");
    let (seconds, _) = never_answered("timeout = \"1h\"", lower).await;
    // An hour by steps of a second would not have been in time.
    assert!(seconds >= 5, "{seconds}");
    let higher = order().field("Operation-Timeout", "86400");
    let (seconds, _) = never_answered("timeout = \"5s\"", higher).await;
    assert!(seconds >= 5, "{seconds}");
}

#[tokio::test]
async fn a_client_may_lower_the_deadline_but_not_raise_it() {
    for (route, client) in [("1h", "10"), ("10s", "3600")] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(503).field("Retry-After", "3"));
        let lines = format!("delivery = \"at-least-once\"\ndeadline = {route:?}");
        let gateway = Setup::before(&upstream).route("POST /orders", &lines).start().await;
        let ticket = gateway.accept(order().field("Operation-Deadline", client)).await;
        let (_, document) = seconds_until_the_end(&gateway, &ticket).await;
        assert_eq!(document["error"]["code"], "deadline-exceeded", "{route} {client}");
        assert!(upstream.received().len() <= 5, "{:?}", upstream.received().len());
    }
}

#[tokio::test]
async fn a_deadline_counts_from_not_before() {
    let upstream = Upstream::start().await;
    let gateway =
        Setup::before(&upstream).route("POST /orders", "deadline = \"10s\"").start().await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    gateway.advance(60);
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn what_is_still_queued_at_its_deadline_fails_without_being_sent() {
    let upstream = Upstream::start().await;
    upstream.hold("/first");
    let gateway = Setup::before(&upstream)
        .set("upstreams.default", "max_in_flight = 1")
        .route("POST /first", "")
        .route("POST /orders", "deadline = \"10s\"")
        .start()
        .await;
    gateway.accept(post("/first")).await;
    upstream.until_received("/first", 1).await;
    let ticket = gateway.post_order().await;
    gateway.advance(20);
    upstream.release("/first");
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert!(upstream.received_at("/orders").is_empty());
}

#[tokio::test]
async fn an_endless_answer_ends_as_too_large() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Endless);
    let gateway = Setup::before(&upstream).max_response(1_000_000).start().await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "response-too-large");
    assert_eq!(document["responseStatus"], 200);
    gateway.get(&ticket.at("result")).await.problem(424);
    upstream.only();
}

#[tokio::test]
async fn no_more_than_max_in_flight_are_at_the_upstream_at_once() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "max_in_flight = 3").start().await;
    let mut tickets = Vec::new();
    for _ in 0..10 {
        tickets.push(gateway.post_order().await);
    }
    upstream.until_received("/orders", 3).await;
    let running = || async {
        let list = gateway.get("/-/operations?status=running").await.expect(200).json();
        (crate::support::gateway::operations_of(&list).len() == 3).then_some(())
    };
    time::until("three running", running).await;
    assert_eq!(upstream.received().len(), 3);
    upstream.release("/orders");
    for ticket in &tickets {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn what_was_for_an_upstream_that_is_no_longer_configured_waits_for_it_until_the_deadline() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let with_two = Setup::before(&one)
        .set("upstreams.other", &format!("url = {:?}", two.url()))
        .route("POST /orders", "upstream = \"other\"");
    let gateway = with_two.start().await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let gateway = gateway.restart_with(Setup::before(&one)).await;
    gateway.advance(3600);
    assert_eq!(gateway.document(&ticket).await["status"], "queued");
    let document = gateway.settled_by_steps_of(3600, &ticket).await;
    assert_eq!(document["error"]["code"], "route-removed", "{document}");
    assert!(one.received().is_empty() && two.received().is_empty());
}

#[tokio::test]
async fn a_route_goes_to_the_upstream_that_it_names() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let gateway = Setup::before(&one)
        .set("upstreams.other", &format!("url = {:?}", two.url()))
        .route("POST /orders", "upstream = \"other\"")
        .route("POST /alarms", "upstream = \"default\"")
        .start()
        .await;
    gateway.post_order().await;
    gateway.accept(post("/alarms")).await;
    two.until_received("/orders", 1).await;
    one.until_received("/alarms", 1).await;
    assert_eq!((one.received().len(), two.received().len()), (1, 1));
}

#[tokio::test]
async fn one_broken_upstream_holds_up_nobody_elses_operations() {
    let (slow, quick) = (Upstream::start().await, Upstream::start().await);
    slow.on("/slow", Answer::Never);
    let gateway = Setup::before(&quick)
        .set("upstreams.slow", &format!("url = {:?}", slow.url()))
        .route("POST /slow", "upstream = \"slow\"")
        .route("POST /orders", "upstream = \"default\"")
        .start()
        .await;
    for _ in 0..200 {
        gateway.accept(post("/slow")).await;
    }
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
}
