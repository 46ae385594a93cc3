//! Malformed responses: those that can be read, and those that cannot.

use std::io::ErrorKind;

use super::*;
use crate::upstream::ResponseReceived;
use cloakroom_domain::operation::{ErrorCode, SendState};

/// What a POST gets from an upstream that answers so and keeps its connections open.
async fn answered(answer: &str) -> (Result<String, UpstreamError>, Vec<String>, &'static str) {
    let (url, mut arrived) = serve_always(answer);
    let upstream = upstream(UpstreamSettings { reuse: Reuse::Always, ..settings(url) });
    let mut fields = Vec::new();
    let body = match upstream.call(post("/")).await {
        Ok(mut reply) => {
            let line = |(name, value): (&HeaderName, &HeaderValue)| {
                format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
            };
            fields = reply.fields.iter().map(line).collect();
            read(&mut reply.body).await
        }
        Err(broken) => Err(broken),
    };
    arrived.recv().await.unwrap();
    let _ = upstream.call(post("/")).await;
    let next = arrived.recv().await.unwrap();
    let fate = if next.starts_with("1 ") { "used again" } else { "not used again" };
    (body, fields, fate)
}

#[tokio::test]
async fn an_answer_with_odd_lines_is_read_and_its_connection_not_used_again() {
    for (lines, field) in [
        ("X-A : v\r\n", "x-a: v"),
        ("X-A: v\r\n w\r\n", "x-a: v w"),
        ("X-A: a\u{1}b\r\nX-B: w\r\n", "x-b: w"),
        ("PHP Warning:  Undefined variable $x in /srv/a.php on line 3\r\nX-B: w\r\n", "x-b: w"),
        ("X A: v\r\nX-B: w\r\n", "x-b: w"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\nok");
        let (body, mut fields, fate) = answered(&answer).await;
        assert_eq!(body.as_deref(), Ok("ok"), "{lines:?}");
        fields.sort_unstable();
        assert_eq!(fields, ["content-length: 2", field], "{lines:?}");
        assert_eq!(fate, "not used again", "{lines:?}");
    }
}

#[tokio::test]
async fn an_answer_in_an_unusual_form_is_read_and_its_connection_used_as_it_says() {
    let many =
        (0..150).map(|number| format!("X-{number}: {number}\r\n")).collect::<Vec<_>>().concat();
    for (answer, fate) in [
        (format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\nok"), "used again"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok".to_owned(), "used again"),
        ("http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "used again"),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok".to_owned(), "used again"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".to_owned(), "used again"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok".to_owned(), "used again"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "not used again"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(), "not used again"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(), "not used again"),
        ("HTTP/2 200\r\nContent-Length: 2\r\n\r\nok".to_owned(), "not used again"),
        ("HTTP/1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "not used again"),
        ("\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "used again"),
        ("HTTP/1.1 103 Early Hints\r\nX A: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(), "used again"),
    ] {
        let (body, fields, found) = answered(&answer).await;
        assert_eq!((body.as_deref(), found), (Ok("ok"), fate), "{answer:?}");
        assert!(!fields.contains(&"content-length: 9".to_owned()), "{answer:?}");
    }
}

#[tokio::test]
async fn odd_trailers_and_odd_lines_of_chunks_leave_an_answer_whole() {
    for (chunks, fate) in [
        ("2\r\nok\r\n0\r\nX A: v\r\n\r\n", "not used again"),
        ("2\r\nok\r\n0\r\nPHP Warning: a, b in /srv/a.php\r\n\r\n", "not used again"),
        ("2\r\nok\r\n0\r\nX-A: a\u{1}b\r\n\r\n", "not used again"),
        ("2\r\nok\r\n0\r\nContent-Length : 1 2\r\nX-A: v\r\n\r\n", "not used again"),
        ("2\nok\n0\n\n", "used again"),
        ("002 ; a=\"b\"\r\nok\r\n0\r\nX-A: v\r\n\r\n", "used again"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let (body, _, found) = answered(&answer).await;
        assert_eq!((body.as_deref(), found), (Ok("ok"), fate), "{chunks:?}");
    }
}

#[tokio::test]
async fn a_205_that_forgets_to_say_that_it_is_empty_is_whole() {
    let (body, _, fate) = answered("HTTP/1.1 205 Reset Content\r\n\r\n").await;
    assert_eq!((body.as_deref(), fate), (Ok(""), "not used again"));
}

#[tokio::test]
async fn an_answer_that_came_and_cannot_be_read_is_told_from_none() {
    let huge = format!("HTTP/1.1 201 Created\r\nX: {}\r\n\r\n", "x".repeat(300 << 10));
    for (answer, status, says) in [
        (
            "HTTP/1.1 201 Created\r\nContent-Length: 2x\r\n\r\nok",
            Some(201),
            "HTTP/1.1 201 Created: ",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length\u{1}: 2\r\n\r\nok", Some(200), "HTTP/1.1 200 OK: "),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            Some(200),
            "chunked alone",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
            Some(200),
            "single number",
        ),
        ("HTTP/x 200 OK\r\n\r\n", None, "HTTP/x 200 OK: "),
        ("220 mail.example.com ESMTP\r\n", None, "not http"),
        ("ICY 200 OK\r\n\r\nmusic", None, "not http"),
        ("<html><p>done</p></html>", None, "not http"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
            Some(101),
            "without being asked",
        ),
        (&"\r\n".repeat(200 << 10), None, "max_response_headers"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            Some(200),
            "status 200",
        ),
        (&huge, Some(201), "max_response_headers"),
    ] {
        let (body, ..) = answered(answer).await;
        let broken = body.unwrap_err();
        assert_eq!(broken.received, ResponseReceived::Unreadable { status }, "{answer:.60?}");
        assert_eq!((broken.sent, broken.cause), (SendState::Perhaps, ErrorCode::UpstreamProtocol));
        assert!(broken.detail.contains(says), "{}", broken.detail);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_answer() {
    for body in
        ["Content-Length: 10\r\n\r\nshort", "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"]
    {
        let (url, _) = serve(move |listener, _| {
            let mut peer = listener.accept();
            peer.request();
            peer.answer(&format!("HTTP/1.1 200 OK\r\n{body}"));
        });
        let broken = complete(&at(&url), post("/")).await.unwrap_err();
        assert_eq!(broken.received, ResponseReceived::Nothing, "{body:?}");
    }
}

#[tokio::test]
async fn what_proves_that_no_request_was_read_has_sent_nothing_and_says_what_to_set() {
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    let goaway = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
    for (octets, at_once, says) in [
        (&settings[..], true, "HTTP/2"),
        (settings, false, "HTTP/2"),
        (goaway, false, "HTTP/2"),
        (b"\x15\x03\x01\0\x02\x02\x46", false, "https"),
    ] {
        let (url, _) = serve(move |listener, _| {
            let mut peer = listener.accept();
            if at_once {
                peer.0.write_all(octets).unwrap();
            }
            peer.request();
            if !at_once {
                peer.0.write_all(octets).unwrap();
            }
        });
        let call = post("/");
        let marker = call.marker.clone();
        let broken = at(&url).call(call).await.unwrap_err();
        assert_eq!(
            (broken.sent, marker.sent()),
            (SendState::Nothing, SendState::Nothing),
            "{octets:?}"
        );
        assert_eq!(broken.cause, ErrorCode::UpstreamUnreachable);
        assert!(broken.detail.contains(says), "{}", broken.detail);
    }
}

#[tokio::test]
async fn plain_http_at_a_url_of_https_says_what_to_set() {
    let (mut url, _) = serve(|listener, _| {
        let mut peer = listener.accept();
        let _ = peer.0.read(&mut [0; 16]);
        let _ = peer.0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = peer.0.read_to_end(&mut Vec::new());
    });
    url.set_scheme("https").unwrap();
    let broken = at(&url).call(post("/orders")).await.unwrap_err();
    assert!(broken.detail.contains("http instead of https"), "{}", broken.detail);
}

/// An upstream that answers so after the head of a request, and closes with the body unread,
/// which resets the connection. It makes sure that the reset is noticed in writing: the body is
/// larger than what both ends take in.
fn answers_early(answer: &'static str) -> (Url, UnboundedReceiver<String>) {
    serve(move |listener, notes| {
        for number in 1.. {
            let mut peer = listener.accept();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                peer.0.read_exact(&mut octet).unwrap();
                head.push(octet[0]);
            }
            peer.answer(answer);
            if notes.send(number.to_string()).is_err() {
                return;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_before_the_body_was_read_is_not_lost() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let large =
        "HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
    for (answer, body) in [(ok, "ok"), (large, "no")] {
        let (url, mut arrived) = answers_early(answer);
        let upstream = at(&url);
        for number in 1..=200 {
            let octets = Bytes::from(vec![b'x'; 3 << 20]);
            let delivery =
                [DeliveryGuarantee::AtMostOnce, DeliveryGuarantee::AtLeastOnce][number % 2];
            let call = Call { body: CallBody::from(octets), delivery, ..post("/") };
            assert_eq!(complete(&upstream, call).await.as_deref(), Ok(body), "at {number}");
            assert_eq!(arrived.recv().await, Some(number.to_string()), "a new connection each");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_reset_without_an_answer_has_none() {
    let (url, _) = serve(|listener, _| {
        let mut peer = listener.accept();
        peer.0.read_exact(&mut [0; 10]).unwrap();
    });
    let body = CallBody::from(Bytes::from(vec![b'x'; 3 << 20]));
    let broken = at(&url).call(Call { body, ..post("/") }).await.unwrap_err();
    assert_eq!((broken.sent, broken.received), (SendState::Perhaps, ResponseReceived::Nothing));
    // Said so that a person knows what kind of trouble it is.
    assert!(!broken.detail.contains(&ErrorKind::BrokenPipe.to_string()), "{}", broken.detail);
}

#[tokio::test]
async fn names_are_written_in_lower_case_or_as_titles() {
    for (header_case, name) in
        [(HeaderCase::Lower, "x-api-key: k"), (HeaderCase::Title, "X-Api-Key: k")]
    {
        let (url, mut arrived) = serve_always(OK);
        let upstream = upstream(UpstreamSettings { header_case, ..settings(url) });
        let call = Call { fields: fields(&[("x-api-key", "k")]), ..post("/") };
        complete(&upstream, call).await.unwrap();
        assert!(arrived.recv().await.unwrap().contains(name));
    }
}

#[tokio::test]
async fn a_reset_that_reading_meets_first_ends_an_early_answer_like_one_that_writing_meets() {
    let (close, closing) = std::sync::mpsc::channel::<()>();
    let (url, _arrived) = serve(move |listener, _| {
        let mut peer = listener.accept();
        peer.0.read_exact(&mut [0; 100]).unwrap();
        // Its end is told by nothing but the end of the connection.
        peer.answer("HTTP/1.1 413 Content Too Large\r\n\r\nno");
        closing.recv().unwrap();
    });
    // More than both ends take in, so that writing waits.
    let body = CallBody::from(Bytes::from(vec![b'x'; 32 << 20]));
    let mut reply = at(&url).call(Call { body, ..post("/large") }).await.unwrap();
    assert_eq!(reply.body.piece().await.unwrap().as_deref(), Some(&b"no"[..]));
    close.send(()).unwrap();
    assert_eq!(reply.body.piece().await, Ok(None));
}

/// An upstream that reads a request but for the last octet of its body, answers so, and closes, so
/// that its end is a reset of a connection to which the whole request was written.
fn leaves_an_octet_unread(answer: &'static str, length: usize) -> Url {
    let (url, _) = serve(move |listener, _| {
        let mut peer = listener.accept();
        let mut octet = [0];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            peer.0.read_exact(&mut octet).unwrap();
            head.push(octet[0]);
        }
        peer.0.read_exact(&mut vec![0; length - 1]).unwrap();
        peer.0.peek(&mut octet).unwrap();
        peer.answer(answer);
    });
    url
}

#[tokio::test]
async fn a_reset_ends_an_early_answer_whose_head_says_all_though_the_whole_request_was_written() {
    const LENGTH: usize = 100 << 10;
    for (answer, body) in [
        ("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno", Some("no")),
        ("HTTP/1.0 413 Content Too Large\r\n\r\nno", Some("no")),
        ("HTTP/1.0 503 Service Unavailable\r\n\r\n", Some("")),
        ("HTTP/1.1 303 See Other\r\nLocation: /orders/7\r\n\r\nno", Some("no")),
        ("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n", Some("no")),
        ("HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\nno", None),
        ("HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n", None),
        ("HTTP/1.1 400 Bad\r\nX-Half", None),
        ("HTTP/1.1 100 Continue\r\n\r\n", None),
        // What it brings may have been cut off.
        ("HTTP/1.0 201 Created\r\n\r\nok", None),
    ] {
        let url = leaves_an_octet_unread(answer, LENGTH);
        let call = Call { body: Bytes::from(vec![b'x'; LENGTH]).into(), ..post("/") };
        let read = complete(&at(&url), call).await;
        assert_eq!(read.as_deref().ok(), body, "{answer:?}: {read:?}");
    }
}
