//! Keys that a route derives by itself.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::gateway::order;
use crate::support::time::spawn;
use crate::support::{Answer, Gateway, Request, Setup, Ticket, Upstream, post};

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

#[tokio::test]
async fn where_there_is_nothing_to_derive_it_from_each_request_is_its_own() {
    for rule in ["header:X-Order", "pointer:/number"] {
        let upstream = Upstream::start().await;
        let gateway = deriving(&upstream, &format!("idempotency_key = {rule:?}")).await;
        assert_ne!(gateway.accept(order()).await, gateway.accept(order()).await, "{rule}");
    }
}

#[tokio::test]
async fn where_there_is_nothing_to_derive_a_required_one_from_it_is_400() {
    for (rule, with) in [
        ("header:X-Order", order().field("X-Order", "7")),
        ("pointer:/number", of(&json!({"number": 7}))),
    ] {
        let upstream = Upstream::start().await;
        let lines = format!("idempotency_key = {rule:?}\nidempotency_required = true");
        let gateway = deriving(&upstream, &lines).await;
        gateway.send(order()).await.problem(400);
        assert_eq!(gateway.listed().await, 0, "{rule}");
        gateway.send(with).await.expect(202);
    }
}

#[tokio::test]
async fn a_key_of_the_clients_own_goes_before_the_derived_one() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"fingerprint\"").await;
    let keyed = |key: &str| order().field("Idempotency-Key", key);
    let one = gateway.accept(keyed("1")).await;
    assert_ne!(gateway.accept(keyed("2")).await, one);
    assert_eq!(gateway.accept(keyed("1")).await, one);
}

#[tokio::test]
async fn a_derived_key_counts_within_its_principal() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .principal("authorization")
        .route("POST /orders", "idempotency_key = \"fingerprint\"\nunique = \"pending\"")
        .start()
        .await;
    let of = |who: &str| order().field("Authorization", who).field("Operation-Delay", "60");
    let ann = gateway.accept(of("Bearer ann")).await;
    assert_ne!(gateway.accept(of("Bearer bob")).await, ann);
    assert_eq!(gateway.accept(of("Bearer ann")).await, ann);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_with_unique_pending_make_one_operation() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let lines = "idempotency_key = \"fingerprint\"\nunique = \"pending\"";
    let gateway = deriving(&upstream, lines).await;
    let public = gateway.public;
    let answers: Vec<_> =
        (0..20).map(|_| spawn(async move { order().send(public).await })).collect();
    let mut ids = BTreeSet::new();
    for answer in answers {
        ids.insert(Ticket::of(&answer.await.unwrap().expect(202)).id);
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(gateway.listed().await, 1);
}

#[tokio::test]
async fn with_unique_pending_one_that_was_canceled_or_failed_counts_no_more() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(400));
    let lines = "idempotency_key = \"fingerprint\"\nunique = \"pending\"";
    let gateway = deriving(&upstream, lines).await;
    let failed = gateway.accept(order()).await;
    gateway.settled(&failed).await;
    let delayed = gateway.accept(order().field("Operation-Delay", "60")).await;
    assert_ne!(delayed, failed);
    gateway.send(post(delayed.at("cancel"))).await.expect(200);
    assert_ne!(gateway.accept(order()).await, delayed);
}
