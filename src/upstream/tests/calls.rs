//! Requests on the wire, and the errors of failed calls.

use futures_util::stream;
use http::header::{EXPECT, HOST};

use super::*;
use cloakroom_domain::operation::{ErrorCode, SendState};

/// What is said of a call to an upstream that answers one request so and then closes.
async fn broken_by(answer: &'static str) -> (UpstreamError, SendState) {
    let (url, _) = serve(move |listener, _| {
        let mut peer = listener.accept();
        peer.request();
        peer.answer(answer);
    });
    let call = post("/orders");
    let marker = call.marker.clone();
    (complete(&at(&url), call).await.unwrap_err(), marker.sent())
}

#[tokio::test]
async fn a_refused_connection_has_sent_nothing() {
    let call = post("/orders");
    let marker = call.marker.clone();
    let broken = at(&nowhere()).call(call).await.unwrap_err();
    assert_eq!((broken.sent, broken.cause), (SendState::Nothing, ErrorCode::UpstreamUnreachable));
    assert_eq!(marker.sent(), SendState::Nothing);
    assert!(broken.detail.contains("refused"), "{}", broken.detail);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_has_sent_nothing() {
    let url = Url::parse("http://orders.invalid").unwrap();
    let broken = at(&url).call(post("/orders")).await.unwrap_err();
    assert_eq!((broken.sent, broken.cause), (SendState::Nothing, ErrorCode::UpstreamUnreachable));
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up_by_the_clock_with_nothing_sent() {
    let (mut url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        let mut hello = [0];
        peer.0.read_exact(&mut hello).unwrap();
        notes.send("hello".into()).unwrap();
        // Until the client gives up.
        let _ = peer.0.read_to_end(&mut Vec::new());
    });
    url.set_scheme("https").unwrap();
    let clock = clock();
    let upstream = Upstream::new(settings(url), clock.clone(), &Tasks::new()).unwrap();
    let call = post("/orders");
    let marker = call.marker.clone();
    let call = Tasks::new().spawn(async move { upstream.call(call).await });
    assert_eq!(arrived.recv().await.as_deref(), Some("hello"));
    assert_eq!(marker.sent(), SendState::Nothing);
    clock.advance(Duration::from_secs(5));
    let broken = call.await.unwrap().unwrap_err();
    assert_eq!((broken.sent, broken.cause), (SendState::Nothing, ErrorCode::UpstreamUnreachable));
    assert_eq!(broken.detail, "not connected within 5 s");
}

#[tokio::test]
async fn something_other_than_tls_has_sent_nothing() {
    let (mut url, _) = serve(|listener, _| {
        let mut peer = listener.accept();
        let _ = peer.0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = peer.0.read_to_end(&mut Vec::new());
    });
    url.set_scheme("https").unwrap();
    let broken = at(&url).call(post("/orders")).await.unwrap_err();
    assert_eq!((broken.sent, broken.cause), (SendState::Nothing, ErrorCode::UpstreamUnreachable));
}

#[tokio::test]
async fn whatever_breaks_after_the_request_left_may_have_been_seen() {
    for answer in [
        "",
        "HTTP/1.1 20",
        "220 mail.example.com ESMTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let (broken, marked) = broken_by(answer).await;
        assert_eq!(
            (broken.sent, broken.cause, marked),
            (SendState::Perhaps, ErrorCode::UpstreamProtocol, SendState::Perhaps),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_reset_after_half_the_body_may_have_been_seen() {
    let (url, _) = serve(|listener, _| {
        let mut peer = listener.accept();
        // Closing with octets unread resets the connection.
        peer.0.read_exact(&mut [0; 10]).unwrap();
    });
    let broken = at(&url).call(post("/orders")).await.unwrap_err();
    assert_eq!((broken.sent, broken.cause), (SendState::Perhaps, ErrorCode::UpstreamProtocol));
}

#[tokio::test]
async fn interim_answers_are_swallowed() {
    let (url, _) = serve_always(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone",
    );
    let mut reply = at(&url).call(post("/orders")).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.length()), (201, Some(4)));
    assert!(!reply.fields.contains_key("link"));
    assert_eq!(read(&mut reply.body).await.unwrap(), "done");
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_an_error() {
    let (broken, _) = broken_by(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    )
    .await;
    assert_eq!((broken.sent, broken.cause), (SendState::Perhaps, ErrorCode::UpstreamProtocol));
}

#[tokio::test]
async fn the_octets_of_the_target_stay_as_they_are() {
    let (url, mut arrived) = serve_always(OK);
    let upstream = at(&url);
    for target in
        ["/a%2fb;c='x'?q=%zz", "/%7Euser/../x?", "//two//slashes", "/a!$&()*+,:@?c=[d]&e='/?'"]
    {
        complete(&upstream, post(target)).await.unwrap();
        let request = arrived.recv().await.unwrap();
        assert!(request.contains(&format!("POST {target} HTTP/1.1\r\n")), "{request}");
    }
    for target in ["", "orders", "http://evil.example/", "/a b", "/a\r\nX: y", "/a#b"] {
        let broken = upstream.call(post(target)).await.unwrap_err();
        assert_eq!(broken.sent, SendState::Nothing, "{target:?}");
    }
}

#[tokio::test]
async fn host_and_length_are_set_and_fields_between_neighbours_dropped() {
    let (url, mut arrived) = serve_always(OK);
    let mut configured = settings(url.clone());
    configured.headers = fields(&[("x-key", "ours"), ("x-more", "1"), ("x-more", "2")]).into();
    let call = Call {
        fields: fields(&[
            ("host", "public.example"),
            ("content-length", "99"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("x-key", "theirs"),
            ("x-list", "a"),
            ("x-list", "b"),
        ]),
        ..post("/orders")
    };
    complete(&upstream(configured), call).await.unwrap();
    let request = arrived.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().skip(1).collect();
    lines.sort_unstable();
    let host = format!("host: {}", url.authority());
    let expected = [
        "content-length: 5",
        &host,
        "x-key: ours",
        "x-list: a",
        "x-list: b",
        "x-more: 1",
        "x-more: 2",
    ];
    assert_eq!(lines, expected);
    assert_eq!(body, "order");
}

#[tokio::test]
async fn a_preserved_host_is_the_clients() {
    let (url, mut arrived) = serve_always(OK);
    let upstream = upstream(UpstreamSettings { preserve_host: true, ..settings(url.clone()) });
    let call = Call { fields: fields(&[("host", "public.example")]), ..post("/orders") };
    complete(&upstream, call).await.unwrap();
    assert!(arrived.recv().await.unwrap().contains("host: public.example\r\n"));
    complete(&upstream, post("/orders")).await.unwrap();
    let own = format!("host: {}\r\n", url.authority());
    assert!(arrived.recv().await.unwrap().contains(&own));
}

#[tokio::test]
async fn an_empty_post_says_that_it_is_empty_and_a_get_says_nothing() {
    let (url, mut arrived) = serve_always(OK);
    let upstream = at(&url);
    complete(&upstream, Call { body: CallBody::empty(), ..post("/orders") }).await.unwrap();
    assert!(arrived.recv().await.unwrap().contains("content-length: 0\r\n"));
    let get = Call { method: Method::GET, body: CallBody::empty(), ..post("/orders") };
    complete(&upstream, get).await.unwrap();
    assert!(!arrived.recv().await.unwrap().contains("content-length"));
}

#[tokio::test]
async fn a_body_in_pieces_goes_out_with_its_length() {
    let (url, mut arrived) = serve_always(OK);
    let pieces = ["first,", "", "second"].map(|it| Ok::<_, BoxError>(Bytes::from(it)));
    let body = CallBody::stream(12, stream::iter(pieces));
    complete(&at(&url), Call { body, ..post("/orders") }).await.unwrap();
    let request = arrived.recv().await.unwrap();
    assert!(request.contains("content-length: 12\r\n"), "{request}");
    assert!(!request.contains("chunked"), "{request}");
    assert!(request.ends_with("\r\n\r\nfirst,second"), "{request}");
}

#[tokio::test]
async fn a_body_that_ends_early_cuts_the_connection() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        let whole = peer.request();
        notes.send(format!("{whole:?}")).unwrap();
    });
    let pieces = [Ok(Bytes::from_static(b"first")), Err(BoxError::from("damaged"))];
    let body = CallBody::stream(12, stream::iter(pieces));
    let broken = at(&url).call(Call { body, ..post("/orders") }).await.unwrap_err();
    assert_eq!(broken.sent, SendState::Perhaps);
    assert_eq!(arrived.recv().await.as_deref(), Some("None"));
}

#[tokio::test]
async fn a_dropped_call_cuts_its_connection_and_its_mark_stays() {
    let (url, mut arrived) = serve(|listener, notes| {
        let mut peer = listener.accept();
        notes.send(peer.request().unwrap()).unwrap();
        notes.send(format!("{:?}", peer.request())).unwrap();
    });
    let upstream = at(&url);
    let call = post("/orders");
    let marker = call.marker.clone();
    let mut calling = Box::pin(upstream.call(call));
    assert_eq!(marker.sent(), SendState::Nothing);
    tokio::select! {
        _ = &mut calling => panic!("no answer came"),
        request = arrived.recv() => assert!(request.unwrap().ends_with("order")),
    }
    drop(calling);
    assert_eq!(marker.sent(), SendState::Perhaps);
    assert_eq!(arrived.recv().await.as_deref(), Some("None"));
}

#[tokio::test]
async fn a_connect_is_refused_before_anything_is_sent() {
    let call = Call { method: Method::CONNECT, ..post("/") };
    assert_eq!(at(&nowhere()).call(call).await.unwrap_err().sent, SendState::Nothing);
}

#[tokio::test]
async fn only_bare_origins_are_upstreams_and_followed() {
    let new = |settings| Upstream::new(settings, clock(), &Tasks::new());
    for url in ["http://a/base", "ftp://a", "http://user@a", "http://a/?q", "unix:/run/a"] {
        let error = new(settings(Url::parse(url).unwrap())).unwrap_err();
        assert!(error.to_string().contains("upstream orders: url must be"), "{url}: {error}");
    }
    let follow = vec!["http://jobs.example".to_owned(), "jobs.example".to_owned()];
    let error = new(UpstreamSettings { follow, ..settings(nowhere()) }).unwrap_err();
    assert!(error.to_string().contains("\"jobs.example\""), "{error}");
}

#[tokio::test]
async fn a_configured_host_replaces_the_upstreams_own() {
    let (url, mut arrived) = serve_always(OK);
    let mut configured = settings(url);
    configured.headers =
        fields(&[(HOST.as_str(), "virtual.example"), (EXPECT.as_str(), "x")]).into();
    complete(&upstream(configured), post("/orders")).await.unwrap();
    let request = arrived.recv().await.unwrap();
    assert!(request.contains("host: virtual.example\r\n") && !request.contains("expect"));
}
