//! Cross-origin requests: only the listed origins are allowed.

use std::collections::BTreeSet;

use crate::support::gateway::order;
use crate::support::{Gateway, Request, Response, Setup, Upstream, get};

const APP: &str = "https://app.example";

async fn with_cors(upstream: &Upstream) -> Gateway {
    Setup::before(upstream).set("cors", &format!("origins = [{APP:?}]")).start().await
}

fn preflight(path: &str, method: &str) -> Request {
    Request::new("OPTIONS", path)
        .field("Access-Control-Request-Method", method)
        .field("Access-Control-Request-Headers", "content-type, idempotency-key, prefer")
}

fn allows(answer: &Response) -> Option<&str> {
    answer.field("access-control-allow-origin")
}

#[tokio::test]
async fn preflights_are_answered_on_routed_paths_and_under_the_prefix() {
    let upstream = Upstream::start().await;
    let gateway = with_cors(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let below = &*ticket.at("status");
    for (path, method) in [("/orders", "POST"), (&*ticket.monitor, "DELETE"), (below, "GET")] {
        let answer = gateway.send(preflight(path, method).field("Origin", APP)).await;
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        assert_eq!(allows(&answer), Some(APP));
        assert!(answer.expect_field("access-control-allow-methods").contains(method));
        let fields = answer.expect_field("access-control-allow-headers").to_lowercase();
        assert!(fields.contains("idempotency-key") || fields == "*", "{fields}");
        assert!(answer.all("vary").join(",").to_lowercase().contains("origin"));
    }
    upstream.only();
}

#[tokio::test]
async fn a_named_origin_may_read_the_answer_and_the_gateways_fields() {
    let upstream = Upstream::start().await;
    let gateway = with_cors(&upstream).await;
    let answer = gateway.send(order().field("Origin", APP)).await.expect(202);
    assert_eq!(allows(&answer), Some(APP));
    let exposed = answer.expect_field("access-control-expose-headers");
    let exposed: BTreeSet<&str> = exposed.split(',').map(str::trim).collect();
    let names = [
        "Location",
        "Content-Location",
        "Operation-Location",
        "Operation-Id",
        "Retry-After",
        "Preference-Applied",
        "X-Progress",
        "Idempotency-Replayed",
        "Gateway-Origin",
        "Upstream-Status",
    ];
    assert_eq!(exposed, BTreeSet::from(names));
    let monitor = crate::support::gateway::path_of(answer.expect_field("location")).to_owned();
    let polled = gateway.send(get(monitor).field("Origin", APP)).await;
    assert_eq!(allows(&polled), Some(APP));
    let missing = gateway.send(get("/-/operations/x").field("Origin", APP)).await;
    assert_eq!(allows(&missing), Some(APP), "errors have to be readable too");
}

#[tokio::test]
async fn any_other_origin_gets_no_leave() {
    let upstream = Upstream::start().await;
    let gateway = with_cors(&upstream).await;
    for origin in ["https://evil.example", "http://app.example", "https://app.example.evil", "null"]
    {
        let answer = gateway.send(order().field("Origin", origin)).await;
        assert_eq!(allows(&answer), None, "{origin}");
        let answer = gateway.send(preflight("/orders", "POST").field("Origin", origin)).await;
        assert_eq!(allows(&answer), None, "{origin}");
    }
}

#[tokio::test]
async fn unless_set_nobody_gets_leave() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    assert_eq!(allows(&gateway.send(order().field("Origin", APP)).await.expect(202)), None);
    let answer = gateway.send(preflight("/-/operations", "GET").field("Origin", APP)).await;
    assert_eq!(allows(&answer), None);
}

#[tokio::test]
async fn elsewhere_a_preflight_is_the_upstreams_to_answer() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("cors", &format!("origins = [{APP:?}]"))
        .route("POST /orders", "")
        .start()
        .await;
    let request = preflight("/catalogue", "PUT").field("Origin", APP);
    let answer = gateway.send(request).await.expect(200);
    assert_eq!(answer.field("gateway-origin"), Some("upstream"));
    assert_eq!(upstream.only().method, "OPTIONS");
}

#[tokio::test]
async fn a_preflight_on_a_route_for_every_method_is_the_upstreams_unless_origins_are_named() {
    let upstream = Upstream::start().await;
    let setup = || Setup::before(&upstream).route("* /api/{*rest}", "").principal("authorization");
    let gateway = setup().start().await;
    let answer = gateway.send(preflight("/api/orders", "PUT").field("Origin", APP)).await;
    assert_eq!(answer.expect(200).field("gateway-origin"), Some("upstream"));
    assert_eq!(upstream.only().method, "OPTIONS");
    for request in [
        Request::new("OPTIONS", "/api/orders").field("Origin", APP),
        Request::new("OPTIONS", "/api/orders").field("Access-Control-Request-Method", "PUT"),
        preflight("/api/orders", "PUT").field("Origin", APP).body("text/plain", "x"),
        Request::new("PUT", "/api/orders").field("Origin", APP),
    ] {
        gateway.send(request).await.problem(401);
    }
    let named = setup().route("OPTIONS /api/orders", "").start().await;
    named.send(preflight("/api/orders", "PUT").field("Origin", APP)).await.problem(401);
    let own = setup().set("cors", "origins = [\"https://other.example\"]").start().await;
    own.send(preflight("/api/orders", "PUT").field("Origin", APP)).await.problem(401);
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_preflight_is_granted_for_methods_that_something_here_takes_and_no_others() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("cors", &format!("origins = [{APP:?}]"))
        .route("POST /orders", "")
        .start()
        .await;
    for (method, is_granted) in [("POST", true), ("PUT", false), ("DELETE", false), ("post", false)]
    {
        let answer = gateway.send(preflight("/orders", method).field("Origin", APP)).await;
        assert_eq!(allows(&answer) == Some(APP), is_granted, "{method}: {answer:?}");
        // What is not routed is the upstream's, and so is leave to ask for it.
        let expected = if is_granted { "cloakroom" } else { "upstream" };
        assert_eq!(answer.field("gateway-origin"), Some(expected), "{method}");
    }
}

#[tokio::test]
async fn a_preflight_under_the_prefix_is_granted_what_the_resource_takes() {
    let upstream = Upstream::start().await;
    for principal in ["none", "authorization"] {
        let mut setup = Setup::before(&upstream)
            .set("cors", &format!("origins = [{APP:?}]"))
            .shared(principal == "none");
        if principal != "none" {
            setup = setup.principal(principal);
        }
        let gateway = setup.start().await;
        for (path, methods) in [
            ("operations", "GET,HEAD"),
            ("operations/x", "DELETE,GET,HEAD"),
            ("operations/x/status", "GET,HEAD"),
            ("operations/x/cancel", "POST"),
            ("operations/x/progress/y", "POST"),
            ("webhooks", "GET,HEAD,POST"),
            ("webhooks/x", "DELETE,GET,HEAD,PATCH"),
            ("webhooks/x/ping", "POST"),
            ("openapi.json", "GET,HEAD"),
            ("nothing", ""),
        ] {
            let asked = preflight(&format!("/-/{path}"), "PROPFIND").field("Origin", APP);
            let answer = gateway.send(asked).await.expect(204);
            assert_eq!(allows(&answer), Some(APP), "{path}");
            let granted = answer.field("access-control-allow-methods").unwrap_or_default();
            let mut granted: Vec<&str> = granted.split(',').map(str::trim).collect();
            granted.sort_unstable();
            assert_eq!(granted.join(","), methods, "{principal}: {path}");
        }
    }
}
