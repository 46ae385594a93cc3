//! Nothing about a request takes it past its route, nor past the credential that it needs.

use crate::support::gateway::order;
use crate::support::{Answer, Connection, Gateway, Request, Response, Setup, Upstream, get, post};

/// What asks for a tunnel.
fn upgrade(request: Request) -> Request {
    request
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .field("Sec-WebSocket-Version", "13")
}

/// What the route that takes every POST is not meant for.
fn excepted() -> [Request; 3] {
    [
        post("/orders").body("application/grpc", "x"),
        post("/orders").body("application/grpc-web+proto", "x"),
        order().field("Sec-Fetch-Mode", "navigate"),
    ]
}

fn known(request: Request) -> Request {
    request.field("Authorization", "Bearer ann")
}

/// A gateway with routes of three methods, which tells callers apart or not.
async fn routed(upstream: &Upstream, has_principals: bool) -> Gateway {
    let setup = Setup::before(upstream)
        .route("POST /orders", "")
        .route("DELETE /orders/{id}", "")
        .route("GET /reports", "");
    if has_principals { setup.principal("authorization") } else { setup }.start().await
}

async fn raw(gateway: &Gateway, head: &str) -> Response {
    let mut connection = Connection::open(gateway.public).await;
    connection.send_raw(format!("{head}\r\nContent-Length: 0\r\n\r\n")).await;
    connection.response().await
}

#[tokio::test]
async fn a_routed_post_that_names_an_upgrade_is_an_operation_like_any_other() {
    let upstream = Upstream::start().await;
    let bare = Gateway::before(&upstream).await;
    let named = Setup::before(&upstream).route("POST /orders", "").start().await;
    for gateway in [&bare, &named] {
        let ticket = gateway.accept(upgrade(order())).await;
        gateway.settled(&ticket).await;
        let received = upstream.received().pop().unwrap();
        assert_eq!(received.field("upgrade"), None);
        assert_eq!(received.field("operation-id"), Some(&*ticket.id));
    }
    let strict = Setup::before(&upstream).principal("authorization").start().await;
    strict.send(upgrade(order())).await.problem(401);
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn what_the_route_of_every_post_leaves_out_needs_a_credential_all_the_same() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).principal("authorization").start().await;
    for request in excepted() {
        gateway.send(request).await.problem(401);
    }
    assert!(upstream.received().is_empty());
    for request in excepted() {
        let answer = gateway.send(known(request)).await.expect(201);
        assert_eq!(answer.field("gateway-origin"), Some("upstream"));
    }
}

#[tokio::test]
async fn routes_that_are_named_leave_nothing_out() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).route("POST /orders", "").start().await;
    for request in excepted() {
        gateway.send(request).await.expect(202);
    }
}

#[tokio::test]
async fn a_tunnel_on_a_routed_path_opens_once_the_principal_is_known() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("websocket".into()));
    let setup = Setup::before(&upstream).route("* /live", "").principal("authorization");
    let gateway = setup.start().await;
    gateway.send(upgrade(get("/live"))).await.problem(401);
    assert!(upstream.received().is_empty());
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&known(upgrade(get("/live")))).await;
    connection.head().await.expect(101);
    for request in [
        known(upgrade(get("/live"))).body("text/plain", "x"),
        known(upgrade(post("/live"))),
        known(upgrade(Request::new("PUT", "/live"))),
    ] {
        gateway.send(request).await.expect(202);
    }
}

#[tokio::test]
async fn a_get_with_a_body_and_one_of_http_1_0_are_no_upgrades() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::status(200));
    let gateway = Gateway::before(&upstream).await;
    gateway.send(upgrade(get("/live")).body("text/plain", "x")).await.expect(200);
    let mut connection = Connection::open(gateway.public).await;
    let old = "GET /live HTTP/1.0\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    connection.send_raw(old).await;
    let answer = String::from_utf8(connection.closed().await).unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    for received in upstream.received() {
        assert_eq!(received.field("upgrade"), None, "{received:?}");
    }
}

#[tokio::test]
async fn a_request_that_servers_read_as_a_routed_one_is_refused() {
    let upstream = Upstream::start().await;
    let (open, strict) = (routed(&upstream, false).await, routed(&upstream, true).await);
    for head in [
        "post /orders HTTP/1.1\r\nHost: x",
        "Post /orders HTTP/1.1\r\nHost: x",
        "get /reports HTTP/1.1\r\nHost: x",
        "POST /orders/7 HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: DELETE",
        "POST /orders/7 HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: PUT\r\nX-Method-Override: delete",
        "POST /orders/7 HTTP/1.1\r\nHost: x\r\nX_HTTP_Method: DELETE",
        "GET /orders HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: POST",
        "PUT /%6Frders HTTP/1.1\r\nHost: x\r\nX-HTTP-Method: POST",
        "OPTIONS /orders HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: POST",
        "POST /orders/7?_method=delete HTTP/1.1\r\nHost: x",
        "GET /orders/7?_METHOD=delete HTTP/1.1\r\nHost: x",
        "POST /public HTTP/1.1\r\nHost: x\r\nX-Original-URL: /orders",
        "POST /public HTTP/1.1\r\nHost: x\r\nX-Rewrite-URL: http://x/orders?a=b",
        "POST /public HTTP/1.1\r\nHost: x\r\nX-Original-URL: /a/../orders",
        "PUT /public HTTP/1.1\r\nHost: x\r\nX-Original-URL: /orders/7\r\nX-HTTP-Method: DELETE",
    ] {
        raw(&open, head).await.problem(400);
        raw(&strict, head).await.problem(401);
        raw(&strict, &format!("{head}\r\nAuthorization: Bearer ann")).await.problem(400);
    }
    assert!(upstream.received().is_empty(), "{:?}", upstream.received());
    assert_eq!(open.listed().await, 0);
}

#[tokio::test]
async fn what_only_looks_like_another_request_is_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = routed(&upstream, false).await;
    for head in [
        "PUT /orders/7 HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: PATCH",
        "GET /orders/7?method=delete HTTP/1.1\r\nHost: x",
        "GET /public HTTP/1.1\r\nHost: x\r\nX-Original-URL: /orders",
        "GET /public?url=/../orders HTTP/1.1\r\nHost: x",
        "PURGE /orders HTTP/1.1\r\nHost: x",
    ] {
        let answer = raw(&gateway, head).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{head}: {answer:?}");
    }
    // An operation keeps what it came with.
    let request = post("/orders").field("X-HTTP-Method-Override", "POST");
    let ticket = gateway.accept(request).await;
    gateway.settled(&ticket).await;
}

#[tokio::test]
async fn a_head_of_what_a_get_route_takes_needs_its_credential() {
    let upstream = Upstream::start().await;
    let (open, strict) = (routed(&upstream, false).await, routed(&upstream, true).await);
    let head = || Request::new("HEAD", "/reports");
    open.send(head()).await.expect(200);
    strict.send(head()).await.expect(401);
    assert_eq!(upstream.received().len(), 1);
    strict.send(known(head())).await.expect(200);
    strict.send(Request::new("HEAD", "/a/../reports")).await.expect(400);
}

#[tokio::test]
async fn a_path_that_servers_take_for_a_routed_one_needs_its_credential() {
    let upstream = Upstream::start().await;
    let (open, strict) = (routed(&upstream, false).await, routed(&upstream, true).await);
    for (method, path) in [
        ("POST", "/Orders"),
        ("POST", "/orders/"),
        ("POST", "/orders."),
        ("POST", "/orders;v=1"),
        ("POST", "/orders.json"),
        ("POST", "/orders%20"),
        ("POST", "/orders%0A"),
        ("delete", "/ORDERS/7"),
        ("PUT", "/ORDERS/7?_method=DELETE"),
        ("head", "/reports"),
        ("DELETE", "/ORDERS/7"),
        ("DELETE", "/orders/7/"),
        ("HEAD", "/reports/"),
        // The method may stand in a form.
        ("POST", "/orders/7"),
        ("POST", "/ORDERS/7"),
    ] {
        strict.send(Request::new(method, path)).await.expect(401);
        let answer = strict.send(known(Request::new(method, path))).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method} {path}");
        let answer = open.send(Request::new(method, path)).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method} {path}");
    }
    let rewritten = || post("/public").field("X-Original-URL", "/Orders");
    strict.send(rewritten()).await.expect(401);
    assert_eq!(open.send(rewritten()).await.field("gateway-origin"), Some("upstream"));
    for (method, path) in [("POST", "/carts"), ("GET", "/orders"), ("DELETE", "/orders")] {
        let answer = strict.send(Request::new(method, path)).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_post_that_is_no_form_needs_no_credential_where_routes_take_other_methods() {
    let upstream = Upstream::start().await;
    let strict = routed(&upstream, true).await;
    let login = |content_type| post("/orders/login").body(content_type, "{}");
    let answer = strict.send(login("application/json")).await;
    assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{answer:?}");
    for form in ["Application/X-WWW-Form-Urlencoded", "multipart/form-data; boundary=x"] {
        strict.send(login(form)).await.problem(401);
    }
}

#[tokio::test]
async fn trace_and_connect_are_405_wherever_they_go_and_in_any_case() {
    let upstream = Upstream::start().await;
    let secret = "X-Internal-Auth = \"of the gateway\"";
    let setup = Setup::before(&upstream).set("upstreams.default.headers", secret);
    let gateway = setup.route("* /orders", "").start().await;
    for target in ["/orders", "/public", "/-/operations", "/a/../b", "http://x/orders"] {
        for method in ["TRACE", "trace", "Trace", "CONNECT", "connect"] {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: x");
            let mut connection = Connection::open(gateway.public).await;
            connection.send_raw(format!("{head}\r\n\r\n")).await;
            let answer = connection.response().await;
            // hyper takes nothing but an authority for a CONNECT.
            if method == "CONNECT" {
                assert!(matches!(answer.status, 400 | 405), "{answer:?}");
                continue;
            }
            assert!(answer.expect_field("allow").contains("GET"), "{head}");
            answer.problem(405);
        }
    }
    let mut connection = Connection::open(gateway.public).await;
    connection.send_raw("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n").await;
    connection.response().await.problem(405);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn the_authority_of_a_target_leads_nowhere_else() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let gateway = routed(&upstream, false).await;
    let target = format!("http://{}/orders", other.address);
    let answer = raw(&gateway, &format!("POST {target} HTTP/1.1\r\nHost: x")).await.expect(202);
    let ticket = crate::support::Ticket::of(&answer);
    gateway.settled(&ticket).await;
    raw(&gateway, &format!("GET {target} HTTP/1.1\r\nHost: x")).await.expect(200);
    let targets: Vec<_> = upstream.received().into_iter().map(|one| one.target).collect();
    assert_eq!(targets, ["/orders", "/orders"]);
    assert!(other.received().is_empty());
    raw(&gateway, "POST * HTTP/1.1\r\nHost: x").await.problem(400);
}
