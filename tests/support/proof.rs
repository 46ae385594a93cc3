//! The fakes themselves, without a gateway: a test that leans on them has to be able to.

use serde_json::json;

use super::{Answer, Connection, Upstream, get, post};

#[tokio::test]
async fn the_order_service_creates_numbered_orders_and_keeps_connections() {
    let upstream = Upstream::start().await;
    let mut connection = Connection::open(upstream.address).await;
    let order = post("/orders").json(&json!({"sku": "A-1"}));
    connection.send(&order).await.expect(201);
    let second = connection.send(&order).await.expect(201);
    assert_eq!(second.field("location"), Some("/orders/2"));
    assert_eq!(second.json(), json!({"order": 2}));
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.received()[1].body, br#"{"sku":"A-1"}"#);
}

#[tokio::test]
async fn scripted_answers_come_first_then_the_standing_one() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Answer::status(500));
    upstream.script("/a", [Answer::status(204)]);
    get("/a").send(upstream.address).await.expect(204);
    get("/a").send(upstream.address).await.expect(500);
}

#[tokio::test]
async fn a_held_request_is_recorded_and_answered_after_its_release() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let address = upstream.address;
    let answer = super::time::spawn(async move { post("/slow").send(address).await });
    upstream.until_received("/slow", 1).await;
    assert!(!answer.is_finished());
    upstream.release("/slow");
    answer.await.unwrap().expect(201);
}

#[tokio::test]
async fn a_client_that_lets_go_of_a_held_request_is_noticed() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let mut connection = Connection::open(upstream.address).await;
    connection.send_head(&get("/slow")).await;
    upstream.until_received("/slow", 1).await;
    drop(connection);
    super::time::until("the drop", || async { (upstream.dropped() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn broken_answers_are_broken() {
    let upstream = Upstream::start().await;
    for answer in [Answer::Reset, Answer::Close, Answer::truncated(), Answer::Raw(vec![7; 9])] {
        upstream.on("/broken", answer.clone());
        let outcome = get("/broken").try_send(upstream.address).await;
        assert!(outcome.is_err(), "{answer:?}: {outcome:?}");
    }
    upstream.on("/interim", Answer::status(200).after_interim(103));
    let answer = get("/interim").send(upstream.address).await.expect(200);
    assert_eq!(answer.interim, [103]);
}
