//! `/-/operations`: the list and search of a principal's own operations.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::gateway::{next_page, operations_of, order};
use crate::support::{Answer, Gateway, Request, Setup, Upstream, get, post};

async fn ids(gateway: &Gateway, query: &str) -> Vec<String> {
    let list = gateway.get(&format!("/-/operations?{query}")).await.expect(200).json();
    let id = |document: &Value| document["id"].as_str().unwrap().to_owned();
    operations_of(&list).iter().map(id).collect()
}

#[tokio::test]
async fn it_is_on_the_public_listener_only_where_everybody_is_meant_to_share() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).shared(false).start().await;
    let ticket = gateway.post_order().await;
    gateway.get("/-/operations").await.problem(404);
    gateway.get(&ticket.at("status")).await.expect(200);
    let list = gateway.admin(get("/-/operations")).await.expect(200).json();
    assert_eq!(operations_of(&list)[0]["id"], &*ticket.id);
}

#[tokio::test]
async fn it_filters_by_status() {
    let upstream = Upstream::start().await;
    upstream.on("/failing", Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    let good = gateway.post_order().await;
    let bad = gateway.accept(post("/failing")).await;
    let later = gateway.accept(order().field("Operation-Delay", "60")).await;
    gateway.settled(&good).await;
    gateway.settled(&bad).await;
    for (status, ticket) in [("succeeded", &good), ("failed", &bad), ("queued", &later)] {
        assert_eq!(ids(&gateway, &format!("status={status}")).await, [&*ticket.id], "{status}");
    }
    assert!(ids(&gateway, "status=canceled").await.is_empty());
    gateway.get("/-/operations?status=nonsense").await.problem(400);
}

#[tokio::test]
async fn it_filters_by_route_queue_and_tag() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("queues.urgent", "max_depth = 100")
        .route("POST /orders", "name = \"orders\"")
        .route("POST /alarms", "name = \"alarms\"\nqueue = \"urgent\"")
        .start()
        .await;
    let one = gateway.accept(order().field("Operation-Tags", "account:1, kind:a")).await;
    let two = gateway.accept(post("/alarms").field("Operation-Tags", "account:2")).await;
    for (query, ticket) in [
        ("route=orders", &one),
        ("route=alarms", &two),
        ("queue=default", &one),
        ("queue=urgent", &two),
        ("tag=account:1", &one),
        ("tag=kind%3Aa", &one),
        ("tag=account:2", &two),
    ] {
        assert_eq!(ids(&gateway, query).await, [&*ticket.id], "{query}");
    }
    assert!(ids(&gateway, "route=orders&tag=account:2").await.is_empty());
}

#[tokio::test]
async fn it_filters_by_time() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let early = gateway.post_order().await;
    gateway.advance(3600);
    let late = gateway.post_order().await;
    let half_past = "2026-11-21T08:30:00Z";
    assert_eq!(ids(&gateway, &format!("until={half_past}")).await, [&*early.id]);
    assert_eq!(ids(&gateway, &format!("since={half_past}")).await, [&*late.id]);
    gateway.get("/-/operations?since=yesterday").await.problem(400);
}

#[tokio::test]
async fn its_pages_show_each_operation_once_even_while_new_ones_come() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut expected = BTreeSet::new();
    for _ in 0..10 {
        expected.insert(gateway.post_order().await.id);
    }
    let mut seen = Vec::new();
    let mut page = Some("/-/operations?limit=3".to_owned());
    while let Some(target) = page {
        let list = gateway.get(&target).await.expect(200).json();
        let operations = operations_of(&list);
        assert!((1..=3).contains(&operations.len()), "{list}");
        seen.extend(operations.iter().map(|o| o["id"].as_str().unwrap().to_owned()));
        page = next_page(&list);
        if seen.len() < 6 {
            gateway.post_order().await;
        }
    }
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "shown twice");
    assert!(distinct.is_superset(&expected), "left out");
}

#[tokio::test]
async fn a_limit_or_a_page_that_makes_no_sense_is_400() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for query in ["limit=x", "limit=-1"] {
        gateway.get(&format!("/-/operations?{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn each_principal_sees_its_own() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .principal("header:X-User")
        .set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    let of = |user: &str, request: Request| request.field("X-User", user);
    let ann = gateway.accept(of("ann", order())).await;
    let bob = gateway.accept(of("bob", order())).await;
    for (user, ticket) in [("ann", &ann), ("bob", &bob)] {
        let list = gateway.send(of(user, get("/-/operations"))).await.expect(200).json();
        let operations = operations_of(&list);
        assert_eq!(operations.len(), 1);
        assert_eq!(operations[0]["id"], &*ticket.id);
    }
    gateway.get("/-/operations").await.problem(401);
}
