//! `Expect: 100-continue`: the gateway asks for the body only if it can use it.

use super::{BOTH, with_mode};
use crate::support::gateway::path_of;
use crate::support::{Connection, Gateway, Request, Setup, Ticket, Upstream, post};

fn announced(length: usize) -> Request {
    post("/orders")
        .field("Content-Type", "text/plain")
        .field("Content-Length", length.to_string())
        .field("Expect", "100-continue")
}

/// Sends a head, keeps the body back, and expects to be refused without a 100.
async fn refused_unread(gateway: &Gateway, request: Request, status: u16) {
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&request).await;
    let answer = connection.response().await;
    assert!(answer.interim.is_empty(), "{answer:?}");
    answer.problem(status);
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn a_request_that_passes_is_asked_for_its_body_and_accepted() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&announced(5)).await;
    assert_eq!(connection.head().await.status, 100);
    assert_eq!(gateway.listed().await, 0);
    connection.send_raw("hello").await;
    let ticket = Ticket::of(&connection.response().await.expect(202));
    gateway.settled(&ticket).await;
    assert_eq!(upstream.only().body, b"hello");
    assert_eq!(upstream.only().field("expect"), None);
}

#[tokio::test]
async fn it_combines_with_the_other_expectations() {
    let upstream = Upstream::start().await;
    let gateway = with_mode(&upstream, "async", BOTH).start().await;
    for (expectation, status) in
        [("100-continue, 201-created", 201), ("202-accepted/100-continue", 202)]
    {
        let mut connection = Connection::open(gateway.public).await;
        let request = post("/orders").field("Content-Length", "5").field("Expect", expectation);
        connection.send_head(&request).await;
        assert_eq!(connection.head().await.status, 100, "{expectation}");
        connection.send_raw("hello").await;
        connection.response().await.expect(status);
    }
}

#[tokio::test]
async fn what_can_be_refused_without_the_body_is_refused_without_a_100() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).max_body(1024).start().await;
    let key = |length: usize| format!("\"{}\"", "k".repeat(length));
    refused_unread(&gateway, announced(5).field("Idempotency-Key", key(256)), 400).await;
    refused_unread(&gateway, announced(5).field("Operation-Timeout", "-1"), 400).await;
    refused_unread(&gateway, announced(5).field("Operation-Expect", "tea"), 417).await;
    refused_unread(&gateway, announced(1025), 413).await;
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_missing_credential_is_refused_without_a_100() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).principal("authorization").start().await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&announced(5)).await;
    let answer = connection.response().await;
    assert!(answer.interim.is_empty(), "{answer:?}");
    answer.expect_field("www-authenticate");
    answer.problem(401);
}

#[tokio::test]
async fn a_proxied_request_is_asked_for_its_body_too() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let request = Request::new("PUT", "/things/7")
        .field("Content-Length", "5")
        .field("Expect", "100-continue");
    connection.send_head(&request).await;
    assert_eq!(connection.head().await.status, 100);
    connection.send_raw("hello").await;
    connection.response().await.expect(200);
    assert_eq!(upstream.only().body, b"hello");
    assert_eq!(upstream.only().field("expect"), None);
}

#[tokio::test]
async fn neither_a_loop_nor_an_ambiguous_path_nor_a_missing_key_is_asked_for_its_body() {
    let upstream = Upstream::start().await;
    let lines = "idempotency_required = true";
    let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
    gateway.get("/catalogue").await.expect(200);
    let mark = upstream.only().expect_field("cdn-loop").to_owned();
    refused_unread(&gateway, announced(5).field("CDN-Loop", mark), 508).await;
    refused_unread(&gateway, announced(5), 400).await;
    let ambiguous = post("/orders%2F7").field("Content-Length", "5");
    refused_unread(&gateway, ambiguous.field("Expect", "100-continue"), 400).await;
}

#[tokio::test]
async fn a_proxied_request_with_an_expectation_that_fails_is_not_asked_for_its_body() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for expectation in ["100-continue, tea", "100-continue, 202-accepted"] {
        let put = Request::new("PUT", "/things/7").field("Content-Length", "5");
        refused_unread(&gateway, put.field("Expect", expectation), 417).await;
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn under_the_prefix_a_body_is_asked_for_too() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    gateway.accept(post("/orders")).await;
    let received = upstream.until_received("/orders", 1).await;
    let progress = path_of(received[0].expect_field("operation-progress-url")).to_owned();
    let mut connection = Connection::open(gateway.public).await;
    let body = r#"{"percentComplete":40}"#;
    let report = post(progress)
        .field("Content-Type", "application/json")
        .field("Content-Length", body.len().to_string());
    connection.send_head(&report.field("Expect", "100-continue")).await;
    assert_eq!(connection.head().await.status, 100);
    connection.send_raw(body).await;
    assert!(connection.response().await.status < 300);
}
