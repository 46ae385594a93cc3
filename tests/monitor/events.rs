//! The timeline: as JSON, and live.

use crate::support::client::EventStream;
use crate::support::gateway::order;
use crate::support::time::spawn;
use crate::support::{Gateway, Ticket, Upstream, get, post};

async fn running() -> (Upstream, Gateway, Ticket) {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    (upstream, gateway, ticket)
}

/// The next event that is no comment.
async fn next_event(stream: &mut EventStream) -> crate::support::client::LiveEvent {
    loop {
        let event = stream.next().await.expect("a stream that goes on");
        if event.comment.is_none() {
            return event;
        }
    }
}

fn names(events: &[crate::support::client::LiveEvent]) -> Vec<&str> {
    let name = |event: &crate::support::client::LiveEvent| event.event.clone();
    assert!(events.iter().all(|event| name(event).is_some()), "{events:?}");
    events.iter().map(|event| event.event.as_deref().unwrap().rsplit('.').next().unwrap()).collect()
}

#[tokio::test]
async fn as_json_it_tells_what_happened_in_order() {
    let (upstream, gateway, ticket) = running().await;
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    let timeline = gateway.get(&ticket.at("events")).await.expect(200);
    assert!(timeline.expect_field("content-type").starts_with("application/json"));
    let text = timeline.text();
    let place = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} in {text}"));
    assert!(place("accepted") < place("started") && place("started") < place("succeeded"));
}

#[tokio::test]
async fn live_it_begins_at_the_beginning_and_ends_with_a_terminal_event() {
    for resource in ["", "/events"] {
        let (upstream, gateway, ticket) = running().await;
        let request = get(format!("{}{resource}", ticket.monitor));
        let mut stream = EventStream::open(gateway.public, request).await;
        let head = stream.head.clone().expect(200);
        assert!(head.expect_field("content-type").starts_with("text/event-stream"));
        assert_eq!(head.field("cache-control"), Some("no-store"));
        let first = next_event(&mut stream).await;
        assert_eq!(names(std::slice::from_ref(&first)), ["accepted"]);
        upstream.release("/orders");
        let rest = stream.rest().await;
        assert_eq!(names(&rest), ["started", "succeeded"]);
        assert!(rest.iter().all(|event| event.id.is_some()), "{rest:?}");
    }
}

#[tokio::test]
async fn a_reconnect_goes_on_behind_the_last_event_that_was_read() {
    let (upstream, gateway, ticket) = running().await;
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    let first = next_event(&mut stream).await;
    drop(stream);
    let last = first.id.unwrap();
    let again = get(ticket.at("events")).field("Last-Event-ID", &*last);
    let mut stream = EventStream::open(gateway.public, again).await;
    assert_eq!(names(&[next_event(&mut stream).await]), ["started"]);
    upstream.release("/orders");
    assert_eq!(names(&stream.rest().await), ["succeeded"]);
}

#[tokio::test]
async fn a_reconnect_past_the_terminal_event_is_204() {
    let (upstream, gateway, ticket) = running().await;
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    let events = stream.rest().await;
    assert_eq!(names(&events), ["accepted", "started", "succeeded"]);
    let last = events.last().unwrap().id.clone().unwrap();
    for resource in ["", "/events"] {
        let again = get(format!("{}{resource}", ticket.monitor)).field("Last-Event-ID", &*last);
        assert_eq!(EventStream::open(gateway.public, again).await.head.status, 204);
    }
}

#[tokio::test]
async fn a_nonsensical_last_event_id_begins_at_the_beginning() {
    let (upstream, gateway, ticket) = running().await;
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    for last in ["x", "-1", "99999999999999999999999999"] {
        let request = get(ticket.at("events")).field("Last-Event-ID", last);
        let mut stream = EventStream::open(gateway.public, request).await;
        assert!(matches!(stream.head.status, 200 | 204 | 400), "{last}: {:?}", stream.head);
        if stream.head.status == 200 {
            assert_eq!(stream.rest().await.len(), 3, "{last}");
        }
    }
}

#[tokio::test]
async fn a_silent_stream_carries_a_comment_every_15_seconds() {
    let (_upstream, gateway, ticket) = running().await;
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    assert_eq!(names(&[next_event(&mut stream).await]), ["accepted"]);
    assert_eq!(names(&[next_event(&mut stream).await]), ["started"]);
    let begun = gateway.clock.now();
    for _ in 0..2 {
        let reading = spawn(async move { (stream.next().await, stream) });
        let read = || async { reading.is_finished().then_some(()) };
        gateway.while_stepping(1, "a comment", read).await;
        let event;
        (event, stream) = reading.await.unwrap();
        assert!(event.is_some_and(|event| event.comment.is_some()));
    }
    assert!(gateway.clock.now().since(begun).as_secs() >= 30, "too often");
}

#[tokio::test]
async fn a_failure_and_a_cancellation_are_terminal_too() {
    let (_upstream, gateway, _) = running().await;
    let ticket = gateway.accept(order().field("Operation-Delay", "3600")).await;
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    assert_eq!(names(&[next_event(&mut stream).await]), ["accepted"]);
    gateway.send(post(ticket.at("cancel"))).await.expect(200);
    assert_eq!(names(&stream.rest().await), ["canceled"]);

    let upstream = Upstream::start().await;
    upstream.on("/orders", crate::support::Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    assert_eq!(names(&stream.rest().await), ["accepted", "started", "failed"]);
}

#[tokio::test]
async fn the_ids_rise() {
    let (upstream, gateway, ticket) = running().await;
    upstream.release("/orders");
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    let ids: Vec<u64> =
        stream.rest().await.iter().map(|e| e.id.as_ref().unwrap().parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

/// An operation whose outcome was unknown, and of which a person has found out; the number of
/// its terminal event.
async fn judged() -> (Upstream, Gateway, Ticket, u64) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", crate::support::Answer::Reset);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let failed = gateway.settled(&ticket).await;
    assert_eq!(failed["error"]["code"], "outcome-unknown");
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    let terminal = stream.rest().await.last().unwrap().id.clone().unwrap();
    let verdict = post(format!("/-/operations/{}/verdict", ticket.id))
        .json(&serde_json::json!({ "outcome": "happened" }));
    gateway.admin(verdict).await.expect(200);
    (upstream, gateway, ticket, terminal.parse().unwrap())
}

#[tokio::test]
async fn a_stream_ends_though_a_verdict_has_followed_the_terminal_event() {
    let (_upstream, gateway, ticket, terminal) = judged().await;
    for resource in ["", "/events"] {
        let open = |last: u64| {
            let request = get(format!("{}{resource}", ticket.monitor));
            EventStream::open(gateway.public, request.field("Last-Event-ID", last.to_string()))
        };
        let mut whole = open(0).await;
        assert_eq!(names(&whole.rest().await), ["accepted", "started", "failed", "reconciled"]);
        let mut behind = open(terminal).await;
        assert_eq!(names(&behind.rest().await), ["reconciled"]);
        assert_eq!(open(terminal + 1).await.head.status, 204);
    }
}

#[tokio::test]
async fn a_stream_ends_behind_the_last_of_several_verdicts() {
    let (_upstream, gateway, ticket, terminal) = judged().await;
    for _ in 0..120 {
        let verdict = post(format!("/-/operations/{}/verdict", ticket.id))
            .json(&serde_json::json!({ "outcome": "did-not-happen" }));
        gateway.admin(verdict).await.expect(200);
    }
    let mut stream = EventStream::open(gateway.public, get(ticket.at("events"))).await;
    let events = stream.rest().await;
    assert_eq!(events.len() as u64, terminal + 121);
}
