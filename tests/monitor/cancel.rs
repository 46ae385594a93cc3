//! `POST …/cancel`.

use crate::support::gateway::order;
use crate::support::{Gateway, Setup, Ticket, Upstream, get, post, time};

async fn cancel(gateway: &Gateway, ticket: &Ticket) -> crate::support::Response {
    gateway.send(post(ticket.at("cancel"))).await
}

#[tokio::test]
async fn what_has_not_begun_is_canceled_at_once_and_never_sent() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let document = cancel(&gateway, &ticket).await.expect(200).json();
    assert_eq!(document["status"], "canceled");
    gateway.advance(120);
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert_eq!(upstream.only().target, "/after");
}

#[tokio::test]
async fn canceling_again_is_200_with_the_same_document() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let first = cancel(&gateway, &ticket).await.expect(200).json();
    gateway.advance(10);
    assert_eq!(cancel(&gateway, &ticket).await.expect(200).json(), first);
}

#[tokio::test]
async fn what_runs_is_202_and_its_upstream_connection_is_dropped() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    upstream.until_received("/orders", 1).await;
    let answer = cancel(&gateway, &ticket).await.expect(202);
    let monitor = format!("{}{}", gateway.origin(), ticket.monitor);
    assert_eq!(answer.field("location"), Some(&*monitor));
    time::until("the drop", || async { (upstream.dropped() == 1).then_some(()) }).await;
    assert_eq!(gateway.settled(&ticket).await["status"], "canceled");
    cancel(&gateway, &ticket).await.expect(200);
    upstream.only();
}

#[tokio::test]
async fn a_slot_that_a_cancellation_frees_is_used_again() {
    let upstream = Upstream::start().await;
    upstream.hold("/first");
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "max_in_flight = 1").start().await;
    let first = gateway.accept(post("/first")).await;
    upstream.until_received("/first", 1).await;
    let second = gateway.accept(post("/second")).await;
    cancel(&gateway, &first).await;
    assert_eq!(gateway.settled(&second).await["status"], "succeeded");
}

#[tokio::test]
async fn what_has_already_ended_is_409() {
    let upstream = Upstream::start().await;
    upstream.on("/failing", crate::support::Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    for path in ["/orders", "/failing"] {
        let ticket = gateway.accept(post(path)).await;
        let document = gateway.settled(&ticket).await;
        cancel(&gateway, &ticket).await.problem(409);
        assert_eq!(gateway.document(&ticket).await, document);
    }
}

#[tokio::test]
async fn one_that_races_with_the_end_is_told_what_can_still_come_of_it() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for round in 1..=20 {
        upstream.hold("/orders");
        let ticket = gateway.post_order().await;
        upstream.until_received("/orders", round).await;
        let (public, request) = (gateway.public, post(ticket.at("cancel")));
        let canceling = time::spawn(async move { request.send(public).await });
        upstream.release("/orders");
        let told = canceling.await.unwrap().status;
        let document = gateway.settled(&ticket).await;
        match told {
            200 => assert_eq!(document["status"], "canceled"),
            // It may have lost the race.
            202 => assert_ne!(document["status"], "failed"),
            _ => assert_eq!((told, &document["status"]), (409, &"succeeded".into())),
        }
        assert_eq!(gateway.document(&ticket).await, document);
    }
    assert_eq!(upstream.received().len(), 20, "nothing is sent to undo it");
}

#[tokio::test]
async fn an_operation_between_two_attempts_can_be_canceled() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", crate::support::Answer::status(503).field("Retry-After", "100"));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    let between =
        |document: &serde_json::Value| document["attempts"] == 1 && document["status"] == "queued";
    gateway.until_document("the pause between attempts", &ticket, between).await;
    let document = cancel(&gateway, &ticket).await.expect(200).json();
    assert_eq!(document["status"], "canceled");
    gateway.advance(1000);
    let after = gateway.accept(post("/after")).await;
    gateway.settled(&after).await;
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn only_a_post_cancels() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    let answer = gateway.send(get(ticket.at("cancel"))).await;
    assert_eq!(answer.field("allow"), Some("POST"));
    answer.problem(405);
    assert_eq!(gateway.document(&ticket).await["status"], "queued");
}
