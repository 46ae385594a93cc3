//! The policy of an operation: fixed at acceptance, whatever a later configuration says.

use serde_json::Value;

use crate::support::gateway::order;
use crate::support::{Answer, Gateway, Setup, Ticket, Upstream, post};

/// Accepts an order for a minute later under these lines, and starts again under others.
async fn accepted_before(upstream: &Upstream, lines: &str, later: &str) -> (Gateway, Ticket) {
    let with = |lines: &str| Setup::before(upstream).route("POST /orders", lines);
    let gateway = with(lines).start().await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let gateway = gateway.restart_with(with(later)).await;
    gateway.advance(60);
    (gateway, ticket)
}

#[tokio::test]
async fn the_timeout_of_its_acceptance_stays() {
    for (lines, later, goes_on) in [
        ("timeout = \"5s\"", "timeout = \"10h\"", false),
        ("timeout = \"10h\"", "timeout = \"5s\"", true),
    ] {
        let upstream = Upstream::start().await;
        upstream.hold("/orders");
        let (gateway, ticket) = accepted_before(&upstream, lines, later).await;
        upstream.until_received("/orders", 1).await;
        gateway.advance(3600);
        if goes_on {
            upstream.release("/orders");
        }
        let status = if goes_on { "succeeded" } else { "failed" };
        assert_eq!(gateway.settled(&ticket).await["status"], status, "{lines}");
    }
}

#[tokio::test]
async fn the_deadline_of_its_acceptance_stays() {
    for (lines, later, code) in [
        ("deadline = \"10s\"", "deadline = \"24h\"", "deadline-exceeded"),
        ("deadline = \"24h\"", "deadline = \"10s\"", "upstream-status"),
    ] {
        let upstream = Upstream::start().await;
        let refusal = Answer::status(503).field("Retry-After", "30");
        upstream.script("/orders", [refusal.clone(), refusal]);
        upstream.on("/orders", Answer::status(404));
        let (gateway, ticket) = accepted_before(&upstream, lines, later).await;
        let document = gateway.settled_by_steps_of(1, &ticket).await;
        assert_eq!(document["error"]["code"], code, "{lines}: {document}");
    }
}

#[tokio::test]
async fn the_retries_of_its_acceptance_stay() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(500));
    let lines = |attempts: u32| {
        format!(
            "delivery = \"at-least-once\"\n\
             retry = {{ attempts = {attempts}, min = \"1s\", max = \"1s\" }}"
        )
    };
    let (gateway, ticket) = accepted_before(&upstream, &lines(3), &lines(7)).await;
    let document = gateway.settled_by_steps_of(1, &ticket).await;
    assert_eq!(document["error"]["code"], "attempts-exhausted", "{document}");
    assert_eq!(document["attempts"], 3);
    assert_eq!(upstream.received().len(), 3);
}

#[tokio::test]
async fn the_serial_key_of_its_acceptance_stays() {
    let upstream = Upstream::start().await;
    let slow = Setup::before(&upstream).set("queues.slow", "max_depth = 100");
    let with = |lines: &str| slow.clone().route("POST /serial/{n}", lines);
    let hold = |verb: &str| {
        post(format!("/-/queues/slow/{verb}")).field("Content-Type", "application/json")
    };
    let of_7 = |path: &str| post(path).field("Customer-Id", "7");
    let keyed = "serial_key = \"header:Customer-Id\"\nqueue = \"slow\"";
    let gateway = with(keyed).start().await;
    gateway.admin(hold("pause")).await.expect(200);
    let first = gateway.accept(of_7("/serial/1")).await;
    let second = gateway.accept(of_7("/serial/2")).await;
    let gateway = gateway.restart_with(with("")).await;
    // Without the rule, a request accepted now waits for no other.
    let third = gateway.accept(of_7("/serial/3")).await;
    gateway.settled(&third).await;
    assert_eq!(gateway.document(&second).await["waitingFor"], "serial-key");
    gateway.admin(hold("resume")).await.expect(200);
    for ticket in [&first, &second] {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
    let targets: Vec<_> = upstream.received().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/serial/3", "/serial/1", "/serial/2"]);
}

#[tokio::test]
async fn unless_set_an_attempt_has_a_quarter_of_an_hour_and_the_whole_a_day() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    gateway.advance(15 * 60 - 1);
    let later = gateway.accept(post("/later")).await;
    gateway.settled(&later).await;
    assert_eq!(gateway.document(&ticket).await["status"], "running");
    gateway.advance(1);
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["cause"], "upstream-timeout", "{document}");

    // An upstream that always asks for some patience has it for a day.
    upstream.on("/busy", Answer::status(503).field("Retry-After", "3600"));
    let begun = gateway.clock.now();
    let ticket = gateway.accept(post("/busy")).await;
    let document: Value = gateway.settled_by_steps_of(600, &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    let hours = gateway.clock.now().since(begun).as_secs() / 3600;
    assert!((22..=24).contains(&hours), "{hours}");
}
