//! Time limits on silent upstreams and clients of proxied requests.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Answer, Connection, Gateway, Request, Setup, Upstream, get, time};

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_504_and_its_connection_is_dropped() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let gateway = Gateway::before(&upstream).await;
    let mut connections = Vec::new();
    for method in ["GET", "HEAD", "PUT"] {
        let mut connection = Connection::open(gateway.public).await;
        connection.send_head(&Request::new(method, "/slow")).await;
        connections.push((method, connection));
    }
    upstream.until_received("/slow", 3).await;
    gateway.advance(61);
    for (method, connection) in &mut connections {
        let answer = connection.try_response(*method == "HEAD").await.unwrap().expect(504);
        assert_eq!(answer.field("gateway-origin"), Some("cloakroom"), "{method}");
    }
    time::until("the drops", || async { (upstream.dropped() == 3).then_some(()) }).await;
}

#[tokio::test]
async fn an_upstream_may_be_given_more_time() {
    let upstream = Upstream::start().await;
    upstream.hold("/slow");
    let setup = Setup::before(&upstream).set("upstreams.default", "response_timeout = \"5m\"");
    let gateway = setup.start().await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&get("/slow")).await;
    upstream.until_received("/slow", 1).await;
    gateway.advance(299);
    upstream.release("/slow");
    connection.response().await.expect(200);
}

#[tokio::test]
async fn an_upstream_that_falls_silent_within_its_answer_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Setup::before_url(&url).start().await;
    let mut client = Connection::open(gateway.public).await;
    client.send_head(&get("/events")).await;
    let mut upstream = asked(&listener).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked";
    upstream.write_all(format!("{head}\r\n\r\n5\r\nhello\r\n").as_bytes()).await.unwrap();
    assert_eq!(client.head().await.status, 200);
    // Each piece gives it the whole time again.
    for word in ["hello", "again", "there"] {
        assert_eq!(client.piece().await.as_deref(), Some(word.as_bytes()));
        gateway.advance(50);
        let next = if word == "hello" { "again" } else { "there" };
        upstream.write_all(format!("5\r\n{next}\r\n").as_bytes()).await.unwrap();
    }
    assert_eq!(client.piece().await.as_deref(), Some(&b"there"[..]));
    let cut = gateway.while_stepping(10, "the end of the silence", || async {
        let read = upstream.try_read(&mut [0]);
        (!read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)).then_some(())
    });
    cut.await;
    assert!(client.try_piece().await.is_err(), "it can be told from a whole answer");
}

/// A connection of the gateway's on which a request has come whole.
async fn asked(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

#[tokio::test]
async fn a_client_that_pauses_is_not_the_upstreams_silence() {
    let upstream = Upstream::start().await;
    upstream.on("/echo", Answer::Echo);
    let gateway = Gateway::before(&upstream).await;
    let mut client = Connection::open(gateway.public).await;
    client.send_head(&Request::new("PUT", "/echo").field("Content-Length", "20")).await;
    client.send_raw("hello").await;
    assert_eq!(client.head().await.status, 200);
    for rest in [15, 10, 5, 0] {
        let mut echoed = Vec::new();
        while echoed.len() < 5 {
            echoed.extend(client.piece().await.expect("more of the echo"));
        }
        gateway.advance(29);
        if rest > 0 {
            client.send_raw("hello").await;
        }
    }
    assert_eq!(client.piece().await, None);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_an_answer_lets_go_of_the_upstream_too() {
    let upstream = Upstream::start().await;
    upstream.on("/endless", Answer::Endless);
    let gateway = Gateway::before(&upstream).await;
    let mut client = Connection::open(gateway.public).await;
    client.send_head(&get("/endless")).await;
    assert_eq!(client.head().await.status, 200);
    let gone = || async { upstream.stays()[0].went };
    gateway.while_stepping(1, "the end of the answer", gone).await;
}
