//! `DELETE` on the monitor: as cancel, and freed.

use crate::support::gateway::order;
use crate::support::{Gateway, Request, Response, Ticket, Upstream, post, time};

async fn delete(gateway: &Gateway, ticket: &Ticket) -> Response {
    gateway.send(Request::new("DELETE", &*ticket.monitor)).await
}

async fn is_gone(gateway: &Gateway, ticket: &Ticket) {
    gateway.get(&ticket.monitor).await.problem(410);
    gateway.get(&ticket.at("result")).await.problem(410);
}

#[tokio::test]
async fn what_has_not_begun_is_canceled_and_freed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    assert_eq!(delete(&gateway, &ticket).await.expect(204).body, b"");
    is_gone(&gateway, &ticket).await;
    gateway.advance(120);
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert_eq!(upstream.only().target, "/after");
}

#[tokio::test]
async fn what_runs_is_202_then_canceled_and_freed() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    delete(&gateway, &ticket).await.expect(202);
    time::until("the drop", || async { (upstream.dropped() == 1).then_some(()) }).await;
    time::until("410", || async {
        (gateway.get(&ticket.monitor).await.status == 410).then_some(())
    })
    .await;
    is_gone(&gateway, &ticket).await;
}

#[tokio::test]
async fn a_finished_one_is_freed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    delete(&gateway, &ticket).await.expect(204);
    is_gone(&gateway, &ticket).await;
    let gateway = gateway.restart().await;
    is_gone(&gateway, &ticket).await;
}

#[tokio::test]
async fn its_idempotency_key_stays() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let keyed = || order().field("Idempotency-Key", "\"k\"");
    let ticket = gateway.accept(keyed()).await;
    gateway.settled(&ticket).await;
    delete(&gateway, &ticket).await.expect(204);
    let replayed = gateway.send(keyed()).await;
    assert_eq!(replayed.field("operation-id"), Some(&*ticket.id), "{replayed:?}");
    upstream.only();
}
