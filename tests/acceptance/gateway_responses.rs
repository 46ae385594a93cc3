//! The fields and forms that all of the gateway's own responses share.

use crate::support::gateway::order;
use crate::support::{Gateway, Request, Response, Setup, Upstream, get, post};

/// Checks the fields that everything of the gateway's own carries.
fn is_own(what: &str, answer: &Response) {
    assert_eq!(answer.all("gateway-origin"), ["cloakroom"], "{what}");
    assert_eq!(answer.all("cache-control"), ["no-store"], "{what}");
    assert_eq!(answer.all("referrer-policy"), ["no-referrer"], "{what}");
}

#[tokio::test]
async fn everything_of_the_gateways_own_stays_out_of_caches_and_referrers() {
    let upstream = Upstream::start().await;
    let gateway =
        Setup::before(&upstream).set("cors", "origins = [\"https://app.example\"]").start().await;
    let ticket = gateway.accept(order().field("Operation-Delay", "60")).await;
    for (request, status) in [
        (order().field("Operation-Delay", "60"), 202),
        (order().field("Operation-Delay", "x"), 400),
        (order().field("Expect", "tea"), 417),
        (order().field("Connection", "host"), 400),
        (get(&*ticket.monitor), 202),
        (Request::new("HEAD", &*ticket.monitor), 202),
        (get(ticket.at("status")), 200),
        (get(ticket.at("result")), 202),
        (get(ticket.at("events")), 200),
        (get(ticket.at("tree")), 200),
        (get("/-/operations"), 200),
        (get("/-/operations?limit=x"), 400),
        (get("/-/openapi.json"), 200),
        (get("/-/nothing"), 404),
        (Request::new("PUT", &*ticket.monitor), 405),
        (
            Request::new("OPTIONS", "/orders")
                .field("Origin", "https://app.example")
                .field("Access-Control-Request-Method", "POST"),
            204,
        ),
        (post(ticket.at("cancel")), 200),
        (get(ticket.at("result")), 409),
        (get(&*ticket.monitor), 303),
        (Request::new("DELETE", &*ticket.monitor), 204),
        (get(&*ticket.monitor), 410),
    ] {
        let what = format!("{request:?}");
        is_own(&what, &gateway.send(request).await.expect(status));
    }
}

#[tokio::test]
async fn problems_are_told_apart_by_types_that_stay() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .max_body(8)
        .route("POST /orders", "")
        .route("POST /keyed", "idempotency_required = true")
        .start()
        .await;
    let keyed = |body: &str| post("/orders").body("text/plain", body).field("Idempotency-Key", "k");
    gateway.send(keyed("one")).await.expect(202);
    for (request, status, kind) in [
        (post("/orders%2F7"), 400, "malformed-path"),
        (post("/orders").field("Operation-Delay", "x"), 400, "malformed-field"),
        (get("/-/operations?limit=x"), 400, "malformed-parameter"),
        (post("/keyed"), 400, "idempotency-key-missing"),
        (get("/-/nothing"), 404, "no-such-resource"),
        (get("/-/operations/x"), 404, "no-such-operation"),
        (Request::new("PUT", "/-/operations"), 405, "method-not-allowed"),
        (post("/orders").body("text/plain", "123456789"), 413, "body-too-large"),
        (post("/orders").field("Expect", "tea"), 417, "expectation-failed"),
        (keyed("two"), 422, "idempotency-key-reused"),
    ] {
        let problem = gateway.send(request).await.problem(status);
        assert_eq!(problem["type"], format!("urn:cloakroom:problem:{kind}"));
    }
}

#[tokio::test]
async fn the_upstreams_answers_are_marked_as_its_own_wherever_they_are_read() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let synchronous = order().field("Expect", "201-created");
    for request in [get(ticket.at("result")), get("/catalogue"), synchronous] {
        let answer = gateway.send(request).await;
        assert_eq!(answer.all("gateway-origin"), ["upstream"], "{answer:?}");
    }
}
