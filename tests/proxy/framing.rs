//! The framing of bodies and answers on their way through.

use crate::support::{Answer, Connection, Gateway, Request, Setup, Upstream};

async fn chunked(gateway: &Gateway, method: &str, target: &str) -> u16 {
    let mut connection = Connection::open(gateway.public).await;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n");
    connection
        .send_raw(
            format!("{head}\r\n4\r\nfind\r\n4\r\n this\r\n0\r\n\r\n")
                .replace("4\r\n this", "5\r\n this"),
        )
        .await;
    connection.response().await.status
}

#[tokio::test]
async fn a_body_in_chunks_arrives_whatever_the_method_is() {
    for method in ["GET", "DELETE", "OPTIONS", "PUT", "PATCH", "QUERY"] {
        let upstream = Upstream::start().await;
        let gateway = Setup::before(&upstream).route(&format!("{method} /kept"), "").start().await;
        assert_eq!(chunked(&gateway, method, "/passed").await, 200, "{method}");
        assert_eq!(upstream.only().body, b"find this", "{method} passed through");
        assert_eq!(chunked(&gateway, method, "/kept").await, 202, "{method}");
        let received = upstream.until_received("/kept", 1).await;
        assert_eq!(received[0].body, b"find this", "{method} as an operation");
    }
}

#[tokio::test]
async fn a_body_of_a_head_request_arrives_too() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let head = "HEAD /passed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n";
    connection.send_raw(format!("{head}\r\n4\r\nfind\r\n0\r\n\r\n")).await;
    assert_eq!(connection.head().await.status, 200);
    assert_eq!(upstream.only().body, b"find");
}

#[tokio::test]
async fn answers_are_in_the_gateways_own_version_and_keep_the_connection() {
    let upstream = Upstream::start().await;
    let octets = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";
    upstream.on("/old", Answer::Raw(octets.into()));
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    for _ in 0..2 {
        connection.send_raw("GET /old HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(connection.exactly(12).await, b"HTTP/1.1 200");
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\nok") {
            rest.extend(connection.exactly(1).await);
        }
        assert!(!String::from_utf8_lossy(&rest).to_lowercase().contains("connection: close"));
    }
}

#[tokio::test]
async fn a_length_that_lost_to_chunks_is_not_passed_on() {
    let upstream = Upstream::start().await;
    let octets = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\n\r\n";
    upstream.on("/both", Answer::Raw(octets.into()));
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.get("/both").await.expect(200);
    assert_eq!((answer.field("content-length"), answer.text().as_str()), (None, "ok"));
}

#[tokio::test]
async fn a_204_has_no_length_whatever_asks_for_it() {
    let upstream = Upstream::start().await;
    let octets = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n";
    upstream.on("/none", Answer::Raw(octets.into()));
    let gateway = Gateway::before(&upstream).await;
    for method in ["HEAD", "GET", "PUT"] {
        let answer = gateway.send(Request::new(method, "/none")).await.expect(204);
        assert_eq!(answer.field("content-length"), None, "{method}");
    }
    // A HEAD tells of other answers the length that a GET would get.
    upstream.on("/some", Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".into()));
    let answer = gateway.send(Request::new("HEAD", "/some")).await.expect(200);
    assert_eq!(answer.field("content-length"), Some("5"));
}

#[tokio::test]
async fn a_coding_that_is_not_undone_is_refused_in_both_directions() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for (method, target) in [("POST", "/orders"), ("PUT", "/passed")] {
        for coding in ["gzip, chunked", "chunked, chunked"] {
            let mut connection = Connection::open(gateway.public).await;
            let head =
                format!("{method} {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}");
            connection.send_raw(format!("{head}\r\n\r\n2\r\nok\r\n0\r\n\r\n")).await;
            let problem = connection.response().await.problem(501);
            assert_eq!(problem["type"], "urn:cloakroom:problem:transfer-coding-not-supported");
        }
    }
    assert_eq!(upstream.requests(), 0);
    let octets = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    upstream.on("/zipped", Answer::Raw(octets.into()));
    gateway.get("/zipped").await.problem(502);
}
