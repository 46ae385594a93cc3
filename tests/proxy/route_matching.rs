//! The match of requests with routes. All other requests are proxied.

use crate::support::gateway::order;
use crate::support::{Connection, Gateway, Request, Response, Setup, Upstream, get, post};

async fn raw(gateway: &Gateway, method: &str, target: &str) -> Response {
    let mut connection = Connection::open(gateway.public).await;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    connection.send_raw(head).await;
    connection.response().await
}

#[tokio::test]
async fn with_nothing_but_an_upstream_every_post_is_a_route_and_all_else_is_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for path in ["/orders", "/", "/a/b/c?d=e"] {
        gateway.send(post(path)).await.expect(202);
    }
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = gateway.send(Request::new(method, "/things/7")).await.expect(200);
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method}");
    }
    assert_eq!(gateway.listed().await, 3);
}

#[tokio::test]
async fn grpc_and_browser_navigations_are_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for content_type in ["application/grpc", "application/grpc+proto", "application/grpc-web"] {
        gateway.send(post("/orders").body(content_type, "x")).await.expect(201);
    }
    gateway.send(order().field("Sec-Fetch-Mode", "navigate")).await.expect(201);
    assert_eq!(gateway.listed().await, 0);
    gateway.send(order().field("Sec-Fetch-Mode", "cors")).await.expect(202);
}

#[tokio::test]
async fn where_routes_are_named_only_those_are_routes() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .route("POST /orders", "")
        .route("PUT /things/{id}", "")
        .route("POST /files/{*path}", "")
        .start()
        .await;
    for (method, path) in
        [("POST", "/orders"), ("PUT", "/things/7"), ("POST", "/files/a"), ("POST", "/files/a/b")]
    {
        gateway.send(Request::new(method, path)).await.expect(202);
    }
    for (method, path, status) in [
        ("POST", "/orders/7", 201),
        ("POST", "/things/7", 201),
        ("PUT", "/orders", 200),
        ("PUT", "/things/7/parts", 200),
        ("POST", "/files", 201),
        ("POST", "/Orders", 201),
    ] {
        let answer = gateway.send(Request::new(method, path)).await.expect(status);
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_path_is_matched_with_unreserved_octets_decoded_and_sent_as_it_was() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).route("POST /orders/{id}", "").start().await;
    for target in ["/%6Frders/7", "/o%72ders/%37", "/orders/a%20b%3F", "/orders/%c3%a9"] {
        raw(&gateway, "POST", target).await.expect(202);
        let received = upstream.until_received(target, 1).await;
        assert_eq!(received[0].target, target);
    }
}

#[tokio::test]
async fn ambiguous_paths_are_400_where_a_route_could_be_meant() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for target in [
        "/a/../orders",
        "/a/./orders",
        "/..",
        "/a/%2e%2e/orders",
        "/a/.%2E/orders",
        "//orders",
        "/a//orders",
        "/orders\\7",
        "/orders%2F7",
        "/orders%2f7",
        "/orders%5C7",
        "/orders%5c7",
        "/orders%00",
    ] {
        raw(&gateway, "POST", target).await.problem(400);
        let under_the_prefix = format!("/-/operations{target}");
        raw(&gateway, "GET", &under_the_prefix).await.problem(400);
    }
    assert!(upstream.received().is_empty());
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn what_no_route_can_mean_is_passed_on_as_it_is() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for target in ["/a%2Fb", "/a//b", "/a%5Cb?c=%00", "/a;b=c/d,e?f[]=1&g=%7e"] {
        raw(&gateway, "GET", target).await.expect(200);
        assert_eq!(upstream.received().last().unwrap().target, target);
    }
}

#[tokio::test]
async fn everything_under_the_prefix_is_the_gateways() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for target in ["/-/nothing", "/-", "/-/", "/-/operations/x/y/z", "/%2D/nothing", "/-/orders"] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            raw(&gateway, method, target).await.problem(404);
        }
    }
    assert!(upstream.received().is_empty());
    gateway.get("/-x").await.expect(200);
}

#[tokio::test]
async fn the_prefix_is_settable() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).set("server", "prefix = \"/jobs\"").start().await;
    let ticket = gateway.post_order().await;
    assert!(ticket.monitor.starts_with("/jobs/operations/"), "{ticket:?}");
    gateway.settled(&ticket).await;
    gateway.get("/jobs/nothing").await.problem(404);
    gateway.get("/-/operations").await.expect(200);
    assert_eq!(upstream.received().last().unwrap().target, "/-/operations");
}

#[tokio::test]
async fn the_prefix_can_be_shared_with_the_upstreams_own_paths() {
    let upstream = Upstream::start().await;
    let bare = Gateway::before(&upstream).await;
    let problem = bare.get("/-/npm/v1/security").await.problem(404);
    assert!(problem["detail"].as_str().unwrap().contains("server.prefix_pass"), "{problem}");
    let gateway = Setup::before(&upstream)
        .set("server", "prefix_pass = true")
        .route("POST /-/jobs", "")
        .start()
        .await;
    for target in [
        "/-/npm/v1/security",
        "/-/package/@scope%2fname/dist-tags",
        "/-",
        "/-/",
        "/-/ready?x=1",
        "/%2D/whoami",
        "/-/operationsx",
    ] {
        let answer = raw(&gateway, "GET", target).await.expect(200);
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{target}");
        assert_eq!(upstream.received().last().unwrap().target, target);
    }
    let ticket = gateway.accept(post("/-/jobs")).await;
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    let before = upstream.received().len();
    for target in
        ["/-/operations/x/y/z", "/-/operations/x", "/-/webhooks/x", "/-/batches", "/-/schedules/x"]
    {
        raw(&gateway, "GET", target).await.problem(404);
    }
    gateway.get("/-/openapi.json").await.expect(200);
    raw(&gateway, "GET", "/-/../orders").await.problem(400);
    raw(&gateway, "GET", "/-/operations%2f../x/..").await.problem(400);
    raw(&gateway, "GET", "/-/operations/a%2fb").await.problem(400);
    raw(&gateway, "POST", "/-/package/@scope%2fname").await.problem(400);
    assert_eq!(upstream.received().len(), before);
}

#[tokio::test]
async fn the_api_describes_itself() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let description = gateway.get("/-/openapi.json").await.expect(200).json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.keys().any(|path| path.ends_with("/operations/{ticket}/status")), "{paths:?}");
}

#[tokio::test]
async fn a_request_that_comes_back_to_its_own_gateway_is_508() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    gateway.send(get("/catalogue")).await.expect(200);
    let mark = upstream.only().expect_field("cdn-loop").to_owned();
    gateway.send(get("/catalogue").field("CDN-Loop", &*mark)).await.problem(508);
    gateway.send(order().field("CDN-Loop", &*mark)).await.problem(508);
    gateway.send(order().field("CDN-Loop", format!("other; a=b, {mark}"))).await.problem(508);
    assert_eq!(gateway.listed().await, 0);
    gateway.send(get("/catalogue").field("CDN-Loop", "another-cdn")).await.expect(200);
    let passed = upstream.received().pop().unwrap().all("cdn-loop").join(", ");
    assert!(passed.contains("another-cdn") && passed.contains("cloakroom;"), "{passed}");
}

#[tokio::test]
async fn the_longer_of_two_routes_wins() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .route("POST /files/{*path}", "name = \"any\"")
        .route("POST /files/special", "name = \"special\"")
        .start()
        .await;
    let special = gateway.accept(post("/files/special")).await;
    let any = gateway.accept(post("/files/other")).await;
    assert_eq!(gateway.document(&special).await["route"], "special");
    assert_eq!(gateway.document(&any).await["route"], "any");
}

#[tokio::test]
async fn a_route_that_is_named_takes_grpc_and_navigations_too() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).route("POST /orders", "").start().await;
    gateway.send(order().field("Sec-Fetch-Mode", "navigate")).await.expect(202);
    gateway.send(post("/orders").body("application/grpc", "x")).await.expect(202);
}

#[tokio::test]
async fn an_ambiguous_path_passes_where_its_method_is_one_that_no_route_uses() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).route("PUT /orders/{id}", "").start().await;
    for target in ["/other%2F7", "/other//7", "/other%5C7"] {
        raw(&gateway, "PUT", target).await.problem(400);
        raw(&gateway, "POST", target).await.expect(201);
        assert_eq!(upstream.received().last().unwrap().target, target);
    }
}
