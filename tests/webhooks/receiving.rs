//! The receiver of these tests does what it is told.

use crate::support::{Authority, Manner, Receiver, post};

#[tokio::test]
async fn the_receiver_answers_as_told_and_tells_what_it_got() {
    let receiver = Receiver::start().await;
    receiver.script("/a", [Manner::status(500).body("no")]);
    let delivery = || post("/a").field("Webhook-Id", "msg_1").body("application/json", "{}");
    assert_eq!(delivery().send(receiver.address).await.status, 500);
    assert_eq!(delivery().send(receiver.address).await.status, 204);
    let arrivals = receiver.until_arrived(2).await;
    assert_eq!((arrivals[0].id(), &*arrivals[1].body), ("msg_1", &b"{}"[..]));
    assert!(receiver.url("/a").starts_with("http://localhost:"));
}

#[tokio::test]
async fn the_receiver_shows_a_certificate() {
    let identity = Authority::new().certify("localhost");
    let receiver = Receiver::start_tls(&identity).await;
    assert!(receiver.url("/").starts_with("https://localhost:"));
}
