//! Plain proxying, streamed both ways, and tunnels.

use futures_util::{Stream, stream};
use http::{Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use cloakroom_domain::operation::{ErrorCode, SendState};

/// A body out of a channel.
fn pieces(
    receiver: UnboundedReceiver<&'static str>,
) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> {
    stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from(piece))), receiver))
    })
}

fn websocket(url: &str) -> Request<Empty<Bytes>> {
    Request::get(url)
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap()
}

#[tokio::test]
async fn bodies_are_passed_on_piece_by_piece_in_both_directions() {
    let (url, _arrived) = serve(|listener, _| {
        let mut peer = listener.accept();
        let head = peer.request().unwrap();
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        peer.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // Each piece is answered before the next is sent.
        for _ in 0..3 {
            let mut piece = [0; 8];
            peer.0.read_exact(&mut piece).unwrap();
            peer.answer(std::str::from_utf8(&piece).unwrap());
        }
        peer.0.read_exact(&mut [0; 5]).unwrap();
        peer.answer("0\r\n\r\n");
    });
    let (pipe, end) = unbounded_channel();
    let mut request = Request::put("http://public.example/a%2Fb?c");
    request = request.version(Version::HTTP_10).header("expect", "100-continue");
    let request = request.body(StreamBody::new(pieces(end))).unwrap();
    let mut response = at(&url).forward(request).await.unwrap();
    for piece in ["one", "two", "six"] {
        pipe.send(piece).unwrap();
        let answered = response.body_mut().piece().await.unwrap().unwrap();
        assert_eq!(answered, piece);
    }
    drop(pipe);
    assert_eq!(response.body_mut().piece().await.unwrap(), None);
}

#[tokio::test]
async fn a_forwarded_request_keeps_its_target_and_loses_expect_and_the_urls_host() {
    let (url, mut arrived) = serve_always(OK);
    let request = Request::get("http://evil.example/a%2Fb?c=%zz")
        .header("host", "evil.example")
        .header("expect", "202-accepted")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = at(&url).forward(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "ok");
    let expected = format!("1 GET /a%2Fb?c=%zz HTTP/1.1\r\nhost: {}\r\n\r\n", url.authority());
    assert_eq!(arrived.recv().await.unwrap(), expected);
}

#[tokio::test]
async fn requests_that_are_not_idempotent_use_no_connection_idle_over_a_second() {
    let (url, mut arrived) = serve_always(OK);
    let clock = clock();
    let upstream = Upstream::new(settings(url), clock.clone(), &Tasks::new()).unwrap();
    for (method, expected) in [("GET", "1"), ("PUT", "1"), ("POST", "2"), ("PATCH", "3")] {
        let request = Request::builder().method(method).uri("/").body(Empty::<Bytes>::new());
        let response = upstream.forward(request.unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
        let seen = arrived.recv().await.unwrap();
        assert!(seen.starts_with(&format!("{expected} {method}")), "{seen}");
        clock.advance(Duration::from_millis(1500));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_not_an_end() {
    let (url, _arrived) = serve(|listener, _| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort");
    });
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let response = at(&url).forward(request).await.unwrap();
    let broken = response.into_body().collect().await.unwrap_err();
    assert_eq!((broken.sent, broken.cause), (SendState::Perhaps, ErrorCode::UpstreamProtocol));
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        notes.send(peer.request().unwrap()).unwrap();
        // The first octets of the tunnel come along with the head.
        peer.answer("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nhello");
        let mut octets = [0; 4];
        peer.0.read_exact(&mut octets).unwrap();
        peer.0.write_all(&octets).unwrap();
        notes.send(format!("{:?}", peer.0.read(&mut octets).unwrap())).unwrap();
    });
    let upstream = at(&url);
    let response = upstream.forward(websocket("/chat")).await.unwrap();
    assert_eq!(response.status().as_u16(), 101);
    let request = arrived.recv().await.unwrap();
    for line in
        ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-version: 13\r\n"]
    {
        assert!(request.contains(line), "{request}");
    }
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    tunnel.write_all(b"ping").await.unwrap();
    let mut octets = [0; 9];
    tunnel.read_exact(&mut octets).await.unwrap();
    assert_eq!(&octets, b"helloping");
    tunnel.shutdown().await.unwrap();
    assert_eq!(arrived.recv().await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_open_however_soon_the_answer_is_let_go() {
    let (url, _arrived) = serve_always(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let (upstream, tasks) = (at(&url), Tasks::new());
    let tunnels = (0..200).map(|_| {
        let upstream = upstream.clone();
        tasks.spawn(async move {
            let mut response = upstream.forward(websocket("/chat")).await.unwrap();
            let tunnel = hyper::upgrade::on(&mut response);
            drop(response);
            tunnel.await.map(drop).map_err(|error| error.to_string())
        })
    });
    for tunnel in tunnels.collect::<Vec<_>>() {
        assert_eq!(tunnel.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn an_upstream_may_decline_to_switch_and_its_answer_is_passed_on() {
    let (url, _arrived) = serve_always("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let response = at(&url).forward(websocket("/chat")).await.unwrap();
    assert_eq!(response.status().as_u16(), 403);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
}

#[tokio::test]
async fn a_switch_to_another_protocol_opens_no_tunnel() {
    for protocol in ["Upgrade: h2c\r\n", ""] {
        let (url, _arrived) = serve_always(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{protocol}\r\n"
        ));
        let broken = at(&url).forward(websocket("/chat")).await.unwrap_err();
        assert_eq!(broken.cause, ErrorCode::UpstreamProtocol);
    }
    let (url, _arrived) = serve_always(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let request = Request::get("/chat").body(Empty::<Bytes>::new()).unwrap();
    assert!(at(&url).forward(request).await.is_err());
}
