//! Keys that a route derives by itself.

use serde_json::json;

use crate::support::gateway::order;
use crate::support::{Gateway, Request, Setup, Upstream, post};

async fn deriving(upstream: &Upstream, lines: &str) -> Gateway {
    Setup::before(upstream).route("POST /orders", lines).start().await
}

fn of(body: &serde_json::Value) -> Request {
    post("/orders").json(body)
}

#[tokio::test]
async fn from_a_field() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"header:X-Order\"").await;
    let with = |order_number: &str| order().field("X-Order", order_number);
    let one = gateway.accept(with("1")).await;
    assert_eq!(gateway.accept(with("1")).await, one);
    assert_ne!(gateway.accept(with("2")).await, one);
}

#[tokio::test]
async fn from_a_place_in_the_body() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"pointer:/order/number\"").await;
    let body = |number: u32| of(&json!({"order": {"number": number}, "sku": "A-1"}));
    let one = gateway.accept(body(1)).await;
    assert_eq!(gateway.accept(body(1)).await, one);
    assert_ne!(gateway.accept(body(2)).await, one);
    let other = of(&json!({"order": {"number": 1}, "sku": "B-2"}));
    gateway.send(other).await.problem(422);
}

#[tokio::test]
async fn from_the_request_as_a_whole() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"fingerprint\"").await;
    let one = gateway.accept(of(&json!({"sku": "A-1"}))).await;
    assert_eq!(gateway.accept(of(&json!({"sku": "A-1"}))).await, one);
    assert_ne!(gateway.accept(of(&json!({"sku": "B-2"}))).await, one);
}

#[tokio::test]
async fn with_unique_pending_only_an_unfinished_one_counts() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let lines = "idempotency_key = \"fingerprint\"\nunique = \"pending\"";
    let gateway = deriving(&upstream, lines).await;
    let one = gateway.accept(order()).await;
    assert_eq!(gateway.accept(order()).await, one);
    upstream.release("/orders");
    gateway.settled(&one).await;
    let two = gateway.accept(order()).await;
    assert_ne!(two, one);
    gateway.settled(&two).await;
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn without_unique_pending_a_finished_one_counts_too() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"fingerprint\"").await;
    let one = gateway.accept(order()).await;
    gateway.settled(&one).await;
    assert_eq!(gateway.accept(order()).await, one);
    upstream.only();
}
