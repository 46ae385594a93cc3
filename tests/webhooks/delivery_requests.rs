//! The requests that a receiver gets, and the meaning of its answers.

use std::time::Duration;

use cloakroom_domain::webhooks::DeliveryError;
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_domain::webhooks::signature::{SignatureHeaders, VerificationKey, verify};
use http::{HeaderName, HeaderValue};

use super::outward::{NOW, Names, Outward, message, open_to, secret, target};
use crate::support::{Authority, Manner, Receiver, time};

#[tokio::test]
async fn a_delivery_arrives_whole_signed_and_marked() {
    let receiver = Receiver::start().await;
    let attempted = Outward::to(&receiver).send(&receiver.url("/hooks?a=b")).await;
    assert_eq!((attempted.status, attempted.error), (Some(204), None));
    let arrival = receiver.only();
    assert_eq!((&*arrival.method, &*arrival.target), ("POST", "/hooks?a=b"));
    assert_eq!(arrival.body, br#"{"test": 2432232314}"#);
    assert_eq!(arrival.field("host"), format!("localhost:{}", receiver.address.port()));
    assert_eq!(arrival.field("idempotency-key"), "\"msg_1\"");
    assert_eq!(arrival.field("content-type"), "application/json; charset=utf-8");
    assert_eq!(arrival.field("content-length"), "20");
    assert_eq!(arrival.field("cdn-loop"), "cloakroom; id=\"test\"");
    assert!(arrival.field("user-agent").starts_with("cloakroom/"));
    let signed = SignatureHeaders {
        id: Some(arrival.id()),
        timestamp: Some(arrival.field("webhook-timestamp")),
        signature: Some(arrival.field("webhook-signature")),
    };
    assert_eq!(verify(signed, &arrival.body, &VerificationKey::Secret(secret()), NOW), Ok(()));
}

#[tokio::test]
async fn no_field_of_a_subscriber_changes_what_the_gateway_says() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    let mut to = target(&receiver.url("/"));
    let evil = [
        "webhook-id",
        "webhook-signature",
        "webhook_timestamp",
        "host",
        "content-type",
        "content-length",
        "content_encoding",
        "transfer-encoding",
        "connection",
        "idempotency_key",
        "cdn-loop",
        "expect",
    ];
    for name in evil {
        to.fields.append(HeaderName::from_static(name), HeaderValue::from_static("evil"));
    }
    to.fields.append("x-mine", HeaderValue::from_static("good"));
    assert!(outward.sender.send(&message(), &to, NOW).await.is_success());
    let arrival = receiver.only();
    assert_eq!(arrival.field("x-mine"), "good");
    assert!(!arrival.fields.iter().any(|(_, value)| value.contains("evil")), "{arrival:?}");
    println!("{} names that change nothing", evil.len());
}

#[tokio::test]
async fn connections_are_used_again() {
    let receiver = Receiver::start().await;
    receiver.on("/", Manner::status(200).body("thanks"));
    let outward = Outward::to(&receiver);
    for _ in 0..50 {
        let attempted = outward.send(&receiver.url("/")).await;
        assert_eq!(&*attempted.excerpt, b"thanks");
    }
    assert_eq!((receiver.count(), receiver.connections()), (50, 1));
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_attempt() {
    let receiver = Receiver::start().await;
    receiver.on("/", Manner::status(200).then_close());
    let outward = Outward::to(&receiver);
    for sent in 1..=20 {
        assert!(outward.send(&receiver.url("/")).await.is_success());
        assert_eq!(receiver.count(), sent);
        // Closed is seen by both sides before the next is sent: on the first turn the one
        // thread hears of it, and on the second the connection ends.
        time::until("it is closed", || async { (receiver.open() == 0).then_some(()) }).await;
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_status_decides() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    for (status, error) in [
        (200, None),
        (202, None),
        (301, Some(DeliveryError::Redirected)),
        (307, Some(DeliveryError::Redirected)),
        (400, Some(DeliveryError::Status)),
        (410, Some(DeliveryError::Gone)),
        (429, Some(DeliveryError::Status)),
        (500, Some(DeliveryError::Status)),
    ] {
        receiver.script("/", [Manner::status(status).body("because")]);
        let attempted = outward.send(&receiver.url("/")).await;
        assert_eq!((attempted.status, attempted.error), (Some(status), error));
        assert_eq!(&*attempted.excerpt, b"because");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let rules = open_to(&[receiver.address, elsewhere.address]);
    let outward = Outward::new(rules, &[], Names::loopback(), Vec::new());
    for status in [301, 302, 303, 307, 308] {
        let there = Manner::status(status).field("Location", &elsewhere.url("/"));
        receiver.script("/", [there]);
        let attempted = outward.send(&receiver.url("/")).await;
        assert_eq!(attempted.error, Some(DeliveryError::Redirected), "{status}");
    }
    assert_eq!((receiver.count(), elsewhere.connections()), (5, 0));
}

#[tokio::test]
async fn how_long_a_receiver_wants_to_be_left_alone_is_told() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    for (field, wait) in [
        ("120", Some(Duration::from_mins(2))),
        ("Thu, 25 Feb 2021 15:03:10 GMT", Some(Duration::from_mins(1))),
        ("Thu, 25 Feb 2020 15:03:10 GMT", Some(Duration::ZERO)),
        ("soon", None),
    ] {
        receiver.script("/", [Manner::status(503).field("Retry-After", field)]);
        assert_eq!(outward.send(&receiver.url("/")).await.retry_after, wait, "{field}");
    }
}

#[tokio::test]
async fn a_delivery_goes_over_tls_to_who_shows_a_good_certificate() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(&authority.certify("localhost")).await;
    let rules = open_to(&[receiver.address]);
    let outward = Outward::new(rules, &[], Names::loopback(), vec![authority.root()]);
    for _ in 0..3 {
        assert_eq!(outward.send(&receiver.url("/")).await.status, Some(204));
    }
    assert_eq!((receiver.count(), receiver.connections()), (3, 1));
}

#[tokio::test]
async fn a_receiver_is_asked_for_permission_and_its_answer_is_read() {
    let receiver = Receiver::start().await;
    let outward = Outward::to(&receiver);
    let to = target(&receiver.url("/"));
    let asked = async || outward.sender.ask_permission(&to, "gw.example.com", NOW).await;
    let granting = |status, origin: &str| {
        let answer = Manner::status(status).field("WebHook-Allowed-Origin", origin);
        answer.field("WebHook-Allowed-Rate", "120")
    };
    receiver.script("/", [granting(200, "gw.example.com")]);
    let permission = asked().await.permission;
    assert_eq!(permission, Some(Permission { per_minute: Some(120) }));
    let question = receiver.only();
    assert_eq!(question.method, "OPTIONS");
    assert_eq!(question.field("webhook-request-origin"), "gw.example.com");
    assert!(question.body.is_empty() && question.all("webhook-signature").is_empty());
    for refusing in [
        granting(200, "other.example.com"),
        granting(405, "gw.example.com"),
        granting(301, "gw.example.com"),
        Manner::status(200),
    ] {
        receiver.script("/", [refusing.clone()]);
        assert_eq!(asked().await.permission, None, "{refusing:?}");
    }
}
