//! Requests that two readers could read differently never reach the upstream.

use crate::support::{Connection, Gateway, Upstream};

/// Sends raw bytes and checks that they are refused (or the connection is closed), that
/// nothing reached the upstream, and that the gateway is still well.
async fn refused(bytes: &[u8]) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_raw(bytes).await;
    let shown = String::from_utf8_lossy(bytes).into_owned();
    match connection.try_response(false).await {
        Ok(answer) => assert!((400..500).contains(&answer.status), "{shown:?}: {answer:?}"),
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{shown:?} hangs");
        }
    }
    assert!(upstream.received().is_empty(), "{shown:?}: {:?}", upstream.received());
    assert_eq!(gateway.listed().await, 0, "{shown:?}");
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn conflicting_or_malformed_lengths_are_refused() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: ",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: xchunked",
    ] {
        for method in ["POST", "PUT"] {
            refused(
                format!("{method} /orders HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\nhello").as_bytes(),
            )
            .await;
        }
    }
}

/// An empty member of a list stands for nothing (RFC 9110 section 5.6.1.2).
#[tokio::test]
async fn an_empty_member_before_chunked_is_no_coding_and_is_not_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for (codings, method) in [(",chunked", "POST"), (", chunked", "PUT")] {
        let mut connection = Connection::open(gateway.public).await;
        connection
            .send_raw(format!(
                "{method} /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {codings}\r\n\
                 Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ))
            .await;
        connection.closed().await;
    }
    let orders = upstream.until_received("/orders", 2).await;
    for order in orders {
        assert_eq!(order.body, b"hello");
        assert!(order.all("transfer-encoding").iter().all(|coding| *coding == "chunked"));
    }
}

#[tokio::test]
async fn a_length_with_a_transfer_encoding_never_smuggles_a_second_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for method in ["POST", "PUT"] {
        let mut connection = Connection::open(gateway.public).await;
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
        let length = 5 + smuggled.len();
        connection
            .send_raw(format!(
                "{method} /orders HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ))
            .await;
        // Whether refused or read by its chunks, nothing may follow on this connection.
        connection.closed().await;
    }
    for received in upstream.received() {
        assert_ne!(received.path(), "/smuggled");
        let lengths = received.all("content-length").len();
        let codings = received.all("transfer-encoding").len();
        assert!(lengths + codings <= 1, "{received:?}");
    }
}

#[tokio::test]
async fn broken_lines_and_control_characters_are_refused() {
    for head in [
        "POST /orders HTTP/1.1\r\nHost: x\r\nX-Folded: a\r\n b\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\nX-Bare: a\rb\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\nX-Null: a\0b\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\nX-Bell: a\x07b\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\nX Space: a\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\nX-Space : a\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\n: nameless\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\nno colon\r\n",
        "POST /or ders HTTP/1.1\r\nHost: x\r\n",
        "POST /orders HTTP/9.9\r\nHost: x\r\n",
        "POST orders HTTP/1.1\r\nHost: x\r\n",
        "P\x01ST /orders HTTP/1.1\r\nHost: x\r\n",
        "POST /orders HTTP/1.1\r\n",
        "POST /orders HTTP/1.1\r\nHost: x\r\nHost: y\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n",
        "PRI * HTTP/2.0\r\n",
    ] {
        refused(format!("{head}Content-Length: 0\r\n\r\n").as_bytes()).await;
    }
}

#[tokio::test]
async fn a_line_feed_alone_never_hides_a_field() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let head =
        "PUT /things/7 HTTP/1.1\r\nHost: x\r\nX-One: a\nX-Two: b\r\nContent-Length: 0\r\n\r\n";
    connection.send_raw(head).await;
    _ = connection.try_response(false).await;
    for received in upstream.received() {
        assert!(received.fields.iter().all(|(_, value)| !value.contains('\n')), "{received:?}");
    }
}

#[tokio::test]
async fn malformed_chunks_are_refused() {
    for body in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "ffffffffffffffffff\r\nx",
        "5\r\nhelloXX0\r\n\r\n",
    ] {
        let head = "POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        refused(format!("{head}{body}").as_bytes()).await;
    }
}
