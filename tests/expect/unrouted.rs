//! Expectations and preferences where nothing is accepted.

use crate::support::gateway::order;
use crate::support::{Gateway, Request, Upstream, get};

#[tokio::test]
async fn on_unrouted_safe_methods_expectations_are_ignored_and_removed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for method in ["GET", "HEAD", "OPTIONS"] {
        for expectation in ["tea", "202-accepted", "200-ok"] {
            let request = Request::new(method, "/catalogue").field("Expect", expectation);
            gateway.send(request.field("Operation-Expect", expectation)).await.expect(200);
        }
    }
    for received in upstream.received() {
        assert_eq!(received.field("expect"), None, "{received:?}");
        assert_eq!(received.field("operation-expect"), None, "{received:?}");
    }
    assert_eq!(upstream.received().len(), 9);
}

#[tokio::test]
async fn on_other_unrouted_methods_202_and_unknown_expectations_are_417() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for expectation in ["202-accepted", "tea", "200-ok, 202-accepted"] {
        let request = Request::new("PUT", "/things/7").field("Expect", expectation);
        gateway.send(request.body("text/plain", "x")).await.problem(417);
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn on_other_unrouted_methods_the_synchronous_family_passes_without_its_field() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for expectation in ["200-ok", "201-created", "204-no-content"] {
        let request = Request::new("PUT", "/things/7").field("Expect", expectation);
        gateway.send(request.body("text/plain", "x")).await.expect(200);
    }
    assert!(upstream.received().iter().all(|received| received.field("expect").is_none()));
}

#[tokio::test]
async fn under_the_prefix_expectations_are_ignored() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order()).await;
    gateway.settled(&ticket).await;
    for expectation in ["tea", "202-accepted"] {
        gateway.send(get(ticket.at("status")).field("Expect", expectation)).await.expect(200);
    }
}

#[tokio::test]
async fn a_preference_is_passed_on_where_nothing_is_routed() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let request = get("/catalogue").field("Prefer", "respond-async, wait=10");
    let answer = gateway.send(request).await.expect(200);
    assert_eq!(answer.field("preference-applied"), None);
    assert_eq!(upstream.only().field("prefer"), Some("respond-async, wait=10"));
}
