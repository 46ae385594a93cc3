//! WebSocket tunnels, and upgrade requests that get none.

use crate::support::{Answer, Connection, Gateway, Request, Setup, Upstream, get};

pub(super) fn upgrade(request: Request, protocol: &str) -> Request {
    request
        .field("Connection", "Upgrade")
        .field("Upgrade", protocol)
        .field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .field("Sec-WebSocket-Version", "13")
}

#[tokio::test]
async fn a_websocket_is_tunnelled_after_the_upstreams_101() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("websocket".into()));
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&upgrade(get("/live"), "websocket")).await;
    let head = connection.head().await.expect(101);
    assert_eq!(head.field("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    for message in ["hello", "\u{0}\u{1}binary", "bye"] {
        connection.send_raw(message).await;
        assert_eq!(connection.exactly(message.len()).await, message.as_bytes());
    }
    let received = upstream.only();
    assert_eq!(received.expect_field("upgrade").to_lowercase(), "websocket");
    assert_eq!(received.all("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
}

#[tokio::test]
async fn what_is_sent_along_with_the_upgrade_is_not_lost() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("websocket".into()));
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let mut bytes = upgrade(get("/live"), "websocket").head(gateway.public);
    bytes.extend_from_slice(b"early");
    connection.send_raw(bytes).await;
    connection.head().await.expect(101);
    assert_eq!(connection.exactly(5).await, b"early");
}

#[tokio::test]
async fn an_upstream_that_refuses_is_passed_on() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::status(403).body("text/plain", "no"));
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.send(upgrade(get("/live"), "websocket")).await.expect(403);
    assert_eq!(answer.text(), "no");
}

#[tokio::test]
async fn another_protocol_than_was_asked_for_opens_no_tunnel() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("chat".into()));
    let gateway = Gateway::before(&upstream).await;
    gateway.send(upgrade(get("/live"), "websocket")).await.problem(502);
}

#[tokio::test]
async fn a_101_that_names_two_protocols_opens_no_tunnel() {
    for lines in [
        "Upgrade: websocket\r\nUpgrade: h2c",
        "Upgrade: websocket\r\nUpgrade: websocket",
        "Upgrade: websocket, h2c",
        "Upgrade:",
        "X-Upgrade: websocket",
    ] {
        let upstream = Upstream::start().await;
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{lines}");
        upstream.on("/live", Answer::Raw(format!("{head}\r\n\r\n").into_bytes()));
        let gateway = Gateway::before(&upstream).await;
        gateway.send(upgrade(get("/live"), "websocket")).await.problem(502);
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_opens_no_tunnel() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("websocket".into()));
    let gateway = Gateway::before(&upstream).await;
    gateway.get("/live").await.problem(502);
}

#[tokio::test]
async fn h2c_and_unlisted_protocols_are_not_upgraded_to() {
    for protocol in ["h2c", "chat", "TLS/1.0"] {
        let upstream = Upstream::start().await;
        let gateway = Gateway::before(&upstream).await;
        let request = upgrade(get("/catalogue"), protocol).field("HTTP2-Settings", "AAMAAABk");
        let answer = gateway.send(request).await;
        assert_ne!(answer.status, 101, "{protocol}");
        for received in upstream.received() {
            assert_eq!(received.field("upgrade"), None, "{protocol}");
            assert_eq!(received.field("http2-settings"), None, "{protocol}");
        }
    }
}

#[tokio::test]
async fn the_list_of_protocols_is_settable_but_never_lets_h2c_in() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("chat".into()));
    let setup = Setup::before(&upstream).set("server", "upgrades = [\"websocket\", \"chat\"]");
    let gateway = setup.start().await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&upgrade(get("/live"), "chat")).await;
    connection.head().await.expect(101);
    upstream.on("/h2c", Answer::Upgrade("h2c".into()));
    let answer = gateway.send(upgrade(get("/h2c"), "h2c")).await;
    assert_ne!(answer.status, 101);
}

#[tokio::test]
async fn an_upgrade_on_a_routed_path_is_passed_on_not_accepted() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("websocket".into()));
    let gateway = Setup::before(&upstream).route("GET /live", "").start().await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&upgrade(get("/live"), "websocket")).await;
    connection.head().await.expect(101);
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn what_the_gateway_reads_or_sets_is_removed_from_an_upgrade_too() {
    let upstream = Upstream::start().await;
    upstream.on("/live", Answer::Upgrade("websocket".into()));
    let gateway = Gateway::before(&upstream).await;
    let mut request = upgrade(get("/live"), "websocket").field("X-Own", "kept");
    for name in ["Operation-Id", "Operation_Attempt", "Callback-Url", "Client_Reference"] {
        request = request.field(name, "forged");
    }
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&request).await;
    connection.head().await.expect(101);
    let received = upstream.only();
    assert_eq!(received.all("x-own"), ["kept"]);
    assert!(received.fields.iter().all(|(_, value)| value != "forged"), "{received:?}");
}

#[tokio::test]
async fn connect_opens_no_tunnel() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let target = upstream.address;
    connection.send_raw(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    let answer = connection.response().await;
    assert!(matches!(answer.status, 400 | 404 | 405 | 501), "{answer:?}");
    assert!(upstream.received().is_empty());
}
