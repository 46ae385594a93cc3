//! Incomplete answers of a proxied request.

use crate::support::{Answer, Connection, Gateway, Request, Setup, Upstream, get, post};

/// Halves of answers, each sent at once and followed by the end of the connection, with the status
/// and the content that came.
const HALVES: [(&str, u16, &str); 7] = [
    ("HTTP/1.1 201 C\r\nLocation: /made/5\r\nContent-Length: 5\r\n\r\n", 201, ""),
    ("HTTP/1.1 404 N\r\nContent-Length: 5\r\n\r\n", 404, ""),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", 200, "hal"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", 200, ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n", 200, "whole"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ncame\r\nzz\r\n", 200, "came"),
];

/// Whole answers, each sent at once and followed by a reset of the connection.
const WHOLE: [&str; 6] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0;a=b\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
];

/// Sizes of a first chunk that cannot be read.
const SIZES: [&str; 5] = ["zz", "-2", "0x2", "", "10000000000000000"];

fn in_chunks(first: &str) -> Answer {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    Answer::Raw(format!("{head}{first}").into_bytes())
}

/// A gateway that takes no request of these tests for an operation.
async fn before(upstream: &Upstream) -> Gateway {
    Setup::before(upstream).route("POST /orders", "").start().await
}

/// A connection that has carried one exchange.
async fn used(gateway: &Gateway) -> Connection {
    let mut connection = Connection::open(gateway.public).await;
    connection.send(&get("/well")).await.expect(200);
    connection
}

/// What comes of a body until it ends, and whether it ends whole.
async fn rest(client: &mut Connection) -> (String, bool) {
    let mut came = Vec::new();
    loop {
        match client.try_piece().await {
            Ok(Some(piece)) => came.extend(piece),
            ended => return (String::from_utf8(came).unwrap(), ended.is_ok()),
        }
    }
}

#[tokio::test]
async fn the_head_of_half_an_answer_reaches_the_client_on_a_used_connection_too() {
    let upstream = Upstream::start().await;
    let gateway = before(&upstream).await;
    for (half, status, content) in HALVES {
        upstream.on("/half", Answer::Raw(half.into()));
        for method in ["POST", "GET", "PUT"] {
            let sent = upstream.received_at("/half").len();
            let mut client = used(&gateway).await;
            client.send_head(&Request::new(method, "/half").field("Content-Length", "0")).await;
            let head = client.head().await.expect(status);
            assert_eq!(head.field("gateway-origin"), Some("upstream"), "{method} {half:?}");
            assert_eq!(head.field("location").is_some(), half.contains("Location"), "{head:?}");
            let came = rest(&mut client).await;
            assert_eq!(came, (content.to_owned(), false), "{method} {half:?}");
            assert_eq!(upstream.received_at("/half").len(), sent + 1, "{method} {half:?}");
        }
    }
}

#[tokio::test]
async fn a_reset_behind_the_end_of_an_answer_cuts_nothing() {
    let upstream = Upstream::start().await;
    // Straight through, and on a synchronous route.
    let gateway = Setup::before(&upstream).route("POST /orders", "mode = \"sync\"").start().await;
    for answer in WHOLE {
        for path in ["/page", "/orders"] {
            upstream.on(path, Answer::RawThenReset(answer.into()));
            for method in ["POST", "GET"] {
                let sent = upstream.received_at(path).len();
                let content = Request::new(method, path).body("text/plain", "content");
                for request in [Request::new(method, path), content] {
                    let came = used(&gateway).await.try_send(&request).await;
                    let came =
                        came.unwrap_or_else(|cut| panic!("{method} {path} {answer:?}: {cut}"));
                    assert_eq!(came.expect(200).body, b"ok", "{method} {path} {answer:?}");
                }
                assert_eq!(
                    upstream.received_at(path).len(),
                    sent + 2,
                    "{method} {path} {answer:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_first_chunk_that_cannot_be_read_is_a_502_which_asks_for_no_second_post() {
    let upstream = Upstream::start().await;
    let gateway = before(&upstream).await;
    for size in SIZES {
        upstream.on("/odd", in_chunks(&format!("{size}\r\n")));
        for (request, again) in [(post("/odd"), false), (get("/odd"), true)] {
            let problem = used(&gateway).await.send(&request).await.problem(502);
            assert_eq!(problem["type"], "urn:cloakroom:problem:upstream-protocol", "{size:?}");
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(detail.contains("try again"), again, "{size:?}: {detail}");
        }
    }
}

#[tokio::test]
async fn half_an_answer_without_a_length_is_a_502_in_http_1_0_where_it_would_look_whole() {
    let upstream = Upstream::start().await;
    let gateway = before(&upstream).await;
    upstream.on("/half", in_chunks(""));
    let mut client = Connection::open(gateway.public).await;
    client.send_raw("POST /half HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let came = String::from_utf8(client.closed().await).unwrap();
    let line = came.lines().next().unwrap_or_default();
    assert!(line.contains(" 502 "), "{came}");
}

#[tokio::test]
async fn silence_in_place_of_an_answer_asks_for_no_second_post() {
    let upstream = Upstream::start().await;
    let gateway = before(&upstream).await;
    upstream.hold("/slow");
    for (request, again) in [(post("/slow"), false), (get("/slow"), true)] {
        let mut client = Connection::open(gateway.public).await;
        client.send_head(&request).await;
        upstream.until_received("/slow", 1 + usize::from(again)).await;
        gateway.advance(61);
        let problem = client.response().await.problem(504);
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(detail.contains("try again"), again, "{detail}");
    }
}
