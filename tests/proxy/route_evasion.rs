//! Requests that try to pass by their route, or by the credential that it needs.

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
        "POST /orders/7?.method=delete HTTP/1.1\r\nHost: x",
        "POST /orders/7?_method[]=DELETE HTTP/1.1\r\nHost: x",
        "POST /orders/7?%5Fmethod%5B%5D=DELETE HTTP/1.1\r\nHost: x",
        "POST /orders/7?[_method]=DELETE HTTP/1.1\r\nHost: x",
        "POST /orders/7?a=1;_method=%44ELETE HTTP/1.1\r\nHost: x",
        "POST /orders/7?+_method=DELETE HTTP/1.1\r\nHost: x",
        "POST /orders/7?X-HTTP-Method-Override=DELETE HTTP/1.1\r\nHost: x",
        "POST /orders/7 HTTP/1.1\r\nHost: x\r\nX-HTTP-Method: GET, DELETE",
        "POST /orders/7 HTTP/1.1\r\nHost: x\r\nX-Method-Override: delete,PUT",
        "POST /orders/7 HTTP/1.1\r\nHost: x\r\nX-HTTP-Method: GET\r\nx-http-method: DELETE",
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
        ("POST", "/orders%3bv=1"),
        ("POST", "/%20orders"),
        ("POST", "/orders%3Fa=b"),
        ("POST", "/%256Frders"),
        ("POST", "/index.php/orders"),
        ("POST", "/shop/Index.PHP/Orders/"),
        ("DELETE", "/app.php;a/orders/7"),
    ] {
        strict.send(Request::new(method, path)).await.expect(401);
        let answer = strict.send(known(Request::new(method, path))).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method} {path}");
        let answer = open.send(Request::new(method, path)).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method} {path}");
    }
    for (method, path) in [
        ("POST", "/carts"),
        ("GET", "/orders"),
        ("DELETE", "/orders"),
        ("POST", "/index.php/carts"),
        ("POST", "/my%20orders"),
        ("POST", "/orders-old"),
    ] {
        let answer = strict.send(Request::new(method, path)).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_path_that_a_field_names_in_place_of_the_requests_own_is_left_out_where_a_route_takes_it()
{
    let upstream = Upstream::start().await;
    let (open, strict) = (routed(&upstream, false).await, routed(&upstream, true).await);
    for (method, fields) in [
        ("POST", "X-Original-URL: /orders"),
        ("POST", "X-Rewrite-URL: http://x/orders?a=b"),
        ("POST", "X_Original_URL: /Orders/"),
        ("POST", "X-Original-URL: /a/../orders"),
        // The method may stand in the body.
        ("POST", "X-Original-URL: /orders/7"),
        ("PUT", "X-Original-URL: /orders/7\r\nX-HTTP-Method: DELETE"),
    ] {
        for gateway in [&open, &strict] {
            let head = format!("{method} /public HTTP/1.1\r\nHost: x\r\n{fields}");
            raw(gateway, &head).await.expect(if method == "POST" { 201 } else { 200 });
            let received = upstream.received().pop().unwrap();
            assert_eq!((received.method.as_str(), received.target.as_str()), (method, "/public"));
            let names = received.fields.iter().map(|(name, _)| name.replace('_', "-"));
            assert!(
                !names.into_iter().any(|name| name.ends_with("-url")),
                "{fields}: {received:?}"
            );
        }
    }
    // What names no route's path tells the upstream what a proxy in front wants to tell.
    raw(&strict, "POST /public HTTP/1.1\r\nHost: x\r\nX-Original-URL: /outside").await.expect(201);
    assert_eq!(upstream.received().pop().unwrap().field("x-original-url"), Some("/outside"));
}

/// A form of a page.
fn form(path: &str, content_type: &str, body: &str) -> Request {
    post(path).body(content_type, body)
}

const FORM: &str = "application/x-www-form-urlencoded";
const PARTS: &str = "multipart/form-data; boundary=x";

fn part(name: &str, value: &str) -> String {
    format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--x--\r\n")
}

#[tokio::test]
async fn a_login_beside_routes_of_other_methods_needs_no_credential_and_arrives_as_it_is() {
    let upstream = Upstream::start().await;
    let strict = routed(&upstream, true).await;
    let parts = part("user", "ann");
    for (content_type, body) in [
        ("application/json", "{\"user\":\"ann\"}"),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", "user=ann&method=DELETE"),
        (PARTS, &parts),
        (FORM, ""),
        (FORM, "_method=patch&user=ann"),
        (FORM, "methods[]=DELETE;payment_method=DELETE"),
        ("text/plain", "_method=DELETE"),
        ("text/plain", "{\"user\":\"ann\"}"),
        ("application/octet-stream", &"x".repeat(200_000)),
    ] {
        let answer = strict.send(form("/orders/login", content_type, body)).await;
        assert_eq!(answer.field("gateway-origin"), Some("upstream"), "{body}: {answer:?}");
        assert_eq!(upstream.received().pop().unwrap().body, body.as_bytes());
    }
    strict.send(post("/orders/login")).await.expect(201);
    let mut chunked = Connection::open(strict.public).await;
    let head = format!("POST /orders/login HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n");
    chunked
        .send_raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n"))
        .await;
    chunked.response().await.expect(201);
    assert_eq!(upstream.received().pop().unwrap().body, b"a=b");
}

#[tokio::test]
async fn a_form_that_names_a_routed_method_in_its_body_is_refused() {
    let upstream = Upstream::start().await;
    let (open, strict) = (routed(&upstream, false).await, routed(&upstream, true).await);
    let parts = part("_method", "DELETE");
    let listed = part("_method[]", "DELETE");
    for (content_type, body) in [
        (FORM, "_method[]=DELETE"),
        (FORM, "a=1;_method=%44ELETE"),
        (FORM, "a=1&%5b_method]=GET,DELETE"),
        (FORM, "x-http-method-override=DELETE"),
        (PARTS, &listed),
        ("application/json", "{\"_method\":\"DELETE\",\"_method\":\"PATCH\"}"),
        ("application/json", "{\"_method\":\"PATCH\",\"_METHOD\":[\"DELETE\"]}"),
        // Parse Server reads every type as JSON.
        ("text/plain", " {\"_method\":\"DELETE\"}"),
        ("application/octet-stream", "{\"_method\":\"DELETE\"}"),
        (FORM, "{\"_method\":\"DELETE\"}"),
        (FORM, "a=b&_method=delete"),
        (FORM, "%5Fmethod=DELETE"),
        (FORM, ".method=DELETE"),
        (PARTS, &parts),
        ("application/json", "{\"_method\":\"DELETE\"}"),
    ] {
        open.send(form("/orders/7", content_type, body)).await.problem(400);
        strict.send(form("/orders/7", content_type, body)).await.problem(401);
        strict.send(known(form("/orders/7", content_type, body))).await.problem(400);
        // Another path for the same route, as some servers read it.
        strict.send(form("/ORDERS/7", content_type, body)).await.problem(401);
        strict.send(known(form("/ORDERS/7", content_type, body))).await.expect(201);
    }
    assert!(upstream.received().iter().all(|one| one.target == "/ORDERS/7"));
    assert_eq!(open.listed().await, 0);
}

#[tokio::test]
async fn a_form_that_cannot_be_looked_into_needs_a_credential() {
    let upstream = Upstream::start().await;
    let (open, strict) = (routed(&upstream, false).await, routed(&upstream, true).await);
    let long = format!("a={}", "x".repeat(200_000));
    let odd = "application/x-www-form-urlencoded; charset=ibm037";
    let json = format!("{{\"a\":\"{}\"}}", "x".repeat(200_000));
    let split = part("x\"; name*0=\"_me\"; name*1=\"thod", "DELETE");
    for (content_type, coding, body) in [
        (FORM, "identity", &*long),
        (FORM, "gzip", "a=b"),
        (odd, "identity", "a=b"),
        ("text/plain", "identity", &json),
        (PARTS, "identity", &split),
    ] {
        let request =
            || form("/orders/login", content_type, body).field("Content-Encoding", coding);
        strict.send(request()).await.problem(401);
        for (gateway, request) in [(&strict, known(request())), (&open, request())] {
            gateway.send(request).await.expect(201);
            assert_eq!(upstream.received().pop().unwrap().body, body.as_bytes());
        }
    }
}

/// What clients compress: uploads, logs, traces and JSON.
const COMPRESSED: [&str; 5] = [
    "application/octet-stream",
    "application/x-ndjson",
    "application/x-protobuf",
    "application/json",
    "text/plain",
];

fn compressed(path: &str, content_type: &str) -> Request {
    post(path).body(content_type, "\u{1f}\u{8b}").field("Content-Encoding", "gzip")
}

#[tokio::test]
async fn compressed_uploads_are_ordinary_where_callers_are_not_told_apart() {
    let upstream = Upstream::start().await;
    let bare = Gateway::before(&upstream).await;
    let named = Setup::before(&upstream).route("POST /orders", "").start().await;
    let mixed = routed(&upstream, false).await;
    for content_type in COMPRESSED {
        for (gateway, path, status) in [
            (&bare, "/orders", 202),
            (&named, "/orders", 202),
            (&named, "/orders/", 201),
            (&named, "/uploads", 201),
            (&mixed, "/orders/login", 201),
            (&mixed, "/uploads", 201),
        ] {
            let answer = gateway.send(compressed(path, content_type)).await.expect(status);
            if status == 202 {
                gateway.settled(&crate::support::Ticket::of(&answer)).await;
            }
            let received = upstream.received().pop().unwrap();
            assert_eq!(received.field("content-encoding"), Some("gzip"), "{path}");
            assert_eq!(received.body, "\u{1f}\u{8b}".as_bytes(), "{path}");
        }
    }
}

#[tokio::test]
async fn a_compressed_upload_needs_a_credential_only_where_its_body_could_name_another_route() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).route("POST /orders", "").route("POST /files/{name}", "");
    let posts = setup.principal("authorization").start().await;
    let mixed = routed(&upstream, true).await;
    for content_type in COMPRESSED {
        for (gateway, path) in [(&posts, "/uploads"), (&posts, "/orders/7"), (&mixed, "/uploads")] {
            gateway.send(compressed(path, content_type)).await.expect(201);
        }
        posts.send(known(compressed("/files/a", content_type))).await.expect(202);
        // `DELETE /orders/{id}` is another route.
        mixed.send(compressed("/orders/7", content_type)).await.problem(401);
        mixed.send(known(compressed("/orders/7", content_type))).await.expect(201);
    }
}

#[tokio::test]
async fn trace_and_connect_are_405_wherever_they_go_and_in_any_case() {
    let upstream = Upstream::start().await;
    let secret = "X-Internal-Auth = \"of the gateway\"";
    let setup = Setup::before(&upstream).set("upstreams.default.headers", secret);
    let gateway = setup.route("* /orders", "").start().await;
    for target in ["/orders", "/public", "/-/operations", "/a/../b", "http://x/orders"] {
        for method in ["TRACE", "trace", "Trace", "TRACK", "track", "CONNECT", "connect"] {
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
