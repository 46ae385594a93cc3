//! The monitor of an operation that has not ended.

use serde_json::json;

use crate::support::gateway::{order, path_of};
use crate::support::time::spawn;
use crate::support::{Gateway, Request, Setup, Ticket, Upstream, get, post};

async fn pending() -> (Upstream, Gateway, Ticket) {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    (upstream, gateway, ticket)
}

#[tokio::test]
async fn it_is_202_with_where_and_when_to_ask_again_and_the_document() {
    let (_upstream, gateway, ticket) = pending().await;
    let answer = gateway.get(&ticket.monitor).await.expect(202);
    let here = format!("{}{}", gateway.origin(), ticket.monitor);
    assert_eq!(answer.field("location"), Some(&*here));
    let seconds: u32 = answer.expect_field("retry-after").parse().unwrap();
    assert!((1..=30).contains(&seconds));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.field("gateway-origin"), Some("cloakroom"));
    assert_eq!(answer.json()["status"], "running");
    assert_eq!(answer.json()["id"], &*ticket.id);
}

#[tokio::test]
async fn x_progress_is_short_ascii_with_its_number_first() {
    let (_upstream, gateway, ticket) = pending().await;
    let answer = gateway.get(&ticket.monitor).await.expect(202);
    let progress = answer.expect_field("x-progress");
    assert!(progress.len() < 100 && progress.is_ascii(), "{progress}");
    assert!(progress.starts_with(|first: char| first.is_ascii_digit()), "{progress}");
}

#[tokio::test]
async fn head_has_the_fields_and_no_body() {
    let (_upstream, gateway, ticket) = pending().await;
    let answer = gateway.send(Request::new("HEAD", &*ticket.monitor)).await.expect(202);
    answer.expect_field("location");
    answer.expect_field("retry-after");
    assert_eq!(answer.body, b"");
}

#[tokio::test]
async fn an_etag_gets_304_while_nothing_has_changed_and_only_while_pending() {
    let (upstream, gateway, ticket) = pending().await;
    let etag = gateway.get(&ticket.monitor).await.expect(202).expect_field("etag").to_owned();
    let again = get(&*ticket.monitor).field("If-None-Match", &*etag);
    gateway.send(again.clone()).await.expect(304);
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    gateway.send(again).await.expect(303);
}

#[tokio::test]
async fn progress_that_was_reported_since_is_no_304() {
    let (upstream, gateway, ticket) = pending().await;
    let etag = gateway.get(&ticket.monitor).await.expect(202).expect_field("etag").to_owned();
    let received = upstream.only();
    let report = path_of(received.expect_field("operation-progress-url")).to_owned();
    let report = post(report).json(&json!({"percentComplete": 40}));
    gateway.send(report).await.expect(204);
    let again = get(&*ticket.monitor).field("If-None-Match", &*etag);
    let answer = gateway.send(again).await.expect(202);
    assert_eq!(answer.json()["percentComplete"], 40);
    assert_ne!(answer.expect_field("etag"), etag);
}

#[tokio::test]
async fn it_varies_by_accept() {
    let (upstream, gateway, ticket) = pending().await;
    let varies = |answer: &crate::support::Response| {
        answer.all("vary").join(",").to_lowercase().contains("accept")
    };
    assert!(varies(&gateway.get(&ticket.monitor).await.expect(202)));
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    assert!(varies(&gateway.get(&ticket.monitor).await.expect(303)));
}

#[tokio::test]
async fn with_a_wait_it_is_held_until_the_operation_finishes() {
    let (upstream, gateway, ticket) = pending().await;
    let (public, request) = (gateway.public, get(&*ticket.monitor).field("Prefer", "wait=40"));
    let held = spawn(async move { request.send(public).await });
    gateway.advance(30);
    gateway.get(&ticket.monitor).await.expect(202);
    assert!(!held.is_finished());
    // No further movement of the clock: only the end of the operation can wake it.
    upstream.release("/orders");
    let answer = held.await.unwrap().expect(303);
    assert_eq!(answer.field("preference-applied"), Some("wait=40"));
}

#[tokio::test]
async fn with_a_wait_that_runs_out_it_is_202() {
    let (_upstream, gateway, ticket) = pending().await;
    let (public, request) = (gateway.public, get(&*ticket.monitor).field("Prefer", "wait=4"));
    let held = spawn(async move { request.send(public).await });
    gateway.while_stepping(1, "the 202", || async { held.is_finished().then_some(()) }).await;
    held.await.unwrap().expect(202);
}

#[tokio::test]
async fn many_can_wait_at_one_monitor() {
    let (upstream, gateway, ticket) = pending().await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let (public, request) = (gateway.public, get(&*ticket.monitor).field("Prefer", "wait=40"));
        held.push(spawn(async move { request.send(public).await }));
    }
    upstream.release("/orders");
    for waiting in held {
        waiting.await.unwrap().expect(303);
    }
}

#[tokio::test]
async fn the_document_is_given_where_it_is_asked_for() {
    let (upstream, gateway, ticket) = pending().await;
    let kind = "application/vnd.cloakroom.operation+json";
    let request = get(&*ticket.monitor).field("Accept", kind);
    let answer = gateway.send(request.clone()).await.expect(202);
    assert_eq!(answer.field("content-type"), Some(kind));
    assert_eq!(answer.json()["status"], "running");
    upstream.release("/orders");
    gateway.settled(&ticket).await;
    let answer = gateway.send(request).await.expect(200);
    assert_eq!(answer.field("content-type"), Some(kind));
    assert_eq!(answer.json()["status"], "succeeded");
}

#[tokio::test]
async fn the_operation_of_another_principal_is_404() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).principal("authorization").start().await;
    let ann = |request: Request| request.field("Authorization", "Bearer ann");
    let bob = |request: Request| request.field("Authorization", "Bearer bob");
    let ticket = gateway.accept(ann(order())).await;
    for resource in ["", "/status", "/result", "/events", "/tree"] {
        let target = format!("{}{resource}", ticket.monitor);
        gateway.send(bob(get(&*target))).await.problem(404);
        assert!(gateway.send(ann(get(&*target))).await.status < 400, "{target}");
    }
    gateway.send(bob(Request::new("POST", ticket.at("cancel")))).await.problem(404);
    gateway.send(bob(Request::new("DELETE", &*ticket.monitor))).await.problem(404);
    gateway.send(get(&*ticket.monitor)).await.problem(401);
}
