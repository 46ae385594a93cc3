//! Odd answers: malformed lines, early answers, unreadable ones.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::{Answer, Gateway, Setup, Upstream, post};

fn before(upstream: &Upstream, delivery: &str, more: &str) -> Setup {
    let lines =
        format!("delivery = {delivery:?}\nretry = {{ min = \"1s\", max = \"1s\" }}\n{more}");
    Setup::before(upstream).route("POST /orders", &lines)
}

fn raw(octets: &str) -> Answer {
    Answer::Raw(octets.as_bytes().to_vec())
}

#[tokio::test]
async fn an_answer_with_odd_lines_is_an_answer() {
    let many =
        (0..150).map(|number| format!("X-{number}: {number}\r\n")).collect::<Vec<_>>().concat();
    for lines in [
        "X-A : v\r\n",
        "X-A: v\r\n w\r\n",
        "X-A: a\u{1}b\r\n",
        "PHP Warning:  Undefined variable $x in /srv/a.php on line 3\r\n",
        &many,
    ] {
        for delivery in ["at-most-once", "at-least-once"] {
            let upstream = Upstream::start().await;
            let head = format!("HTTP/1.1 201 Created\r\n{lines}Location: /orders/7\r\n");
            upstream.script("/orders", [raw(&format!("{head}Content-Length: 2\r\n\r\nok"))]);
            let gateway = before(&upstream, delivery, "").start().await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled(&ticket).await;
            assert_eq!(document["status"], "succeeded", "{lines:.40} {delivery}: {document}");
            assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).body, b"ok");
            assert_eq!(upstream.received_at("/orders").len(), 1, "{lines:.40} {delivery}");
        }
    }
}

#[tokio::test]
async fn odd_trailers_break_no_answer() {
    let many = "X-A: v\r\n".repeat(3_000);
    for trailers in
        ["X A: v\r\n\r\n", "oops\r\n\r\n", "X-A : v\r\n\r\n", "", "X-A", &(many + "\r\n")]
    {
        for delivery in ["at-most-once", "at-least-once"] {
            let upstream = Upstream::start().await;
            let head = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n";
            let answer = raw(&format!("{head}2\r\nok\r\n0\r\n{trailers}"));
            upstream.script("/orders", [answer.clone()]);
            upstream.on("/page", answer);
            let gateway = before(&upstream, delivery, "").start().await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled(&ticket).await;
            assert_eq!(document["status"], "succeeded", "{trailers:.40} {delivery}: {document}");
            assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).body, b"ok");
            assert_eq!(gateway.get("/page").await.expect(201).body, b"ok");
        }
    }
}

#[tokio::test]
async fn a_reset_behind_the_last_chunk_breaks_no_answer_and_one_before_it_does() {
    for (chunks, whole) in [
        ("2\r\nok\r\n0\r\n", true),
        ("2\r\nok\r\n0\r\nX-T: 1\r\n", true),
        ("2\r\nok\r\n0\r\nX-T", true),
        ("2\r\nok\r\n0;a=b\r\n", true),
        ("2\r\nok\r\n0\r\n\r\n", true),
        ("2\r\nok\r\n", false),
        ("2\r\no", false),
    ] {
        for delivery in ["at-most-once", "at-least-once"] {
            let upstream = Upstream::start().await;
            let head = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n";
            let answer = Answer::RawThenReset(format!("{head}{chunks}").into_bytes());
            upstream.script("/orders", [answer]);
            let gateway = before(&upstream, delivery, "").start().await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            let sent = upstream.received_at("/orders").len();
            if whole {
                assert_eq!(document["status"], "succeeded", "{chunks:?} {delivery}: {document}");
                assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).body, b"ok");
                assert_eq!(sent, 1, "{chunks:?} {delivery}");
            } else if delivery == "at-most-once" {
                assert_eq!(document["error"]["code"], "outcome-unknown", "{chunks:?}: {document}");
            } else {
                assert_eq!(sent, 2, "{chunks:?}");
            }
        }
    }
}

const UNREADABLE: [&str; 5] = [
    "HTTP/1.1 201 Created\r\nContent-Length: 2x\r\n\r\nok",
    "HTTP/1.1 201 Created\r\nContent-Length\u{1}: 2\r\n\r\nok",
    "HTTP/1.1 201 Created\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
];

#[tokio::test]
async fn the_document_tells_the_status_of_an_answer_that_cannot_be_read() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [raw(UNREADABLE[0])]);
    let gateway = before(&upstream, "at-most-once", "").start().await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    assert_eq!(document["responseStatus"], 201, "{document}");
}

#[tokio::test]
async fn one_that_cannot_be_read_leaves_the_outcome_unknown_and_is_not_asked_for_again() {
    for octets in UNREADABLE {
        for delivery in ["at-most-once", "at-least-once"] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", raw(octets));
            let gateway = before(&upstream, delivery, "").start().await;
            let document = gateway.settled(&gateway.post_order().await).await;
            let error = &document["error"];
            assert_eq!(document["status"], "failed", "{octets:?} {delivery}");
            assert_eq!(error["code"], "outcome-unknown", "{octets:?} {delivery}: {error}");
            assert_eq!(error["cause"], "upstream-protocol");
            let status = &octets[9..12];
            let answered = format!("answered {status}");
            assert!(error["message"].as_str().unwrap().contains(&answered), "{error}");
            assert_eq!(document["responseStatus"].to_string(), status, "{document}");
            assert_eq!(upstream.received_at("/orders").len(), 1, "{octets:?} {delivery}");
        }
    }
}

#[tokio::test]
async fn an_answer_without_a_status_line_leaves_the_outcome_unknown_and_is_not_asked_for_again() {
    for octets in ["ICY 200 OK\r\n\r\nmusic", "<html><p>done</p></html>", "this is no HTTP\r\n\r\n"]
    {
        for delivery in ["at-most-once", "at-least-once"] {
            let upstream = Upstream::start().await;
            upstream.on("/orders", raw(octets));
            let gateway = before(&upstream, delivery, "").start().await;
            let document = gateway.settled(&gateway.post_order().await).await;
            let error = &document["error"];
            assert_eq!(error["code"], "outcome-unknown", "{octets:?} {delivery}: {document}");
            assert_eq!(error["cause"], "upstream-protocol");
            assert_eq!(upstream.received_at("/orders").len(), 1, "{octets:?} {delivery}");
        }
    }
}

#[tokio::test]
async fn statuses_of_networks_in_between_that_never_reached_the_service_are_definite() {
    for status in [521, 523, 525, 526, 530] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(status));
        let gateway = before(&upstream, "at-most-once", "").start().await;
        let document = gateway.settled(&gateway.post_order().await).await;
        assert_eq!(document["error"]["code"], "upstream-status", "{status}: {document}");
    }
}

#[tokio::test]
async fn what_extends_a_chunk_s_size_breaks_no_answer() {
    for length in [100, 20_000, 200_000] {
        for delivery in ["at-most-once", "at-least-once"] {
            let upstream = Upstream::start().await;
            let extension = format!(";a={}", "x".repeat(length));
            let head = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n";
            let answer = raw(&format!("{head}2{extension}\r\nok\r\n0{extension}\r\n\r\n"));
            upstream.on("/orders", answer.clone());
            upstream.on("/page", answer);
            let gateway = before(&upstream, delivery, "").start().await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled(&ticket).await;
            assert_eq!(document["status"], "succeeded", "{length} {delivery}: {document}");
            assert_eq!(gateway.get(&ticket.at("result")).await.expect(200).body, b"ok");
            assert_eq!(gateway.get("/page").await.expect(201).body, b"ok");
        }
    }
}

#[tokio::test]
async fn what_a_recheck_says_of_it_decides() {
    for (says, status, sent) in [(404, "succeeded", 2), (200, "succeeded", 1), (500, "failed", 1)] {
        for delivery in ["at-most-once", "at-least-once"] {
            let upstream = Upstream::start().await;
            upstream.script("/orders", [raw(UNREADABLE[0])]);
            upstream.on("/made", Answer::status(says));
            let recheck = "recheck = \"GET /made?ref={idempotency_key}\"";
            let gateway = before(&upstream, delivery, recheck).start().await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            assert_eq!(document["status"], status, "{says} {delivery}: {document}");
            assert_eq!(upstream.received_at("/orders").len(), sent, "{says} {delivery}");
        }
    }
}

#[tokio::test]
async fn answers_that_cannot_be_read_do_not_open_the_breaker() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", raw(UNREADABLE[0]));
    let gateway = before(&upstream, "at-most-once", "").start().await;
    for _ in 0..30 {
        gateway.settled(&gateway.post_order().await).await;
    }
    upstream.on("/orders", Answer::Orders);
    // Without the clock being moved: no pause stands before it.
    let document = gateway.settled(&gateway.post_order().await).await;
    assert_eq!(document["status"], "succeeded", "{document}");
}

/// A service that answers after the head of each request and closes with the body unread, so
/// that its end of the connection is reset; and how many requests it had.
fn answers_early() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head, mut octet) = (stream.unwrap(), Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut octet).is_ok() {
                head.push(octet[0]);
            }
            if head.ends_with(b"\r\n\r\n") {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    (address, requests)
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_read_is_not_lost() {
    const ROUNDS: usize = 60;
    let body = || vec![b'x'; 3 << 20];
    for delivery in ["at-most-once", "at-least-once"] {
        let (address, requests) = answers_early();
        let lines = format!("delivery = {delivery:?}");
        let setup = Setup::before_url(&format!("http://{address}")).route("POST /orders", &lines);
        let gateway = setup.start().await;
        for _ in 0..ROUNDS {
            let ticket = gateway.accept(post("/orders").body("text/plain", body())).await;
            let document = gateway.settled(&ticket).await;
            assert_eq!(document["status"], "succeeded", "{delivery}: {document}");
        }
        assert_eq!(requests.load(Ordering::SeqCst), ROUNDS, "{delivery}");
    }
    let (address, _) = answers_early();
    let lines = "delivery = \"at-most-once\"";
    let setup = Setup::before_url(&format!("http://{address}")).route("POST /orders", lines);
    let gateway: Gateway = setup.start().await;
    for _ in 0..ROUNDS {
        let proxied = gateway.send(post("/passed").body("text/plain", body())).await;
        assert_eq!(proxied.expect(201).body, b"ok");
    }
}

/// A service that reads all but the last octet of each request's body, refuses it in that form, and
/// closes; and how many requests it had. The connection is reset, though all was written.
fn refuses_early(answer: &'static str, length: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, requests) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut head, mut octet) = (stream.unwrap(), Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut octet).is_ok() {
                head.push(octet[0]);
            }
            if stream.read_exact(&mut vec![0; length - 1]).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.peek(&mut octet);
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    (address, requests)
}

#[tokio::test]
async fn an_early_refusal_whose_end_only_closing_tells_is_not_lost() {
    const LENGTH: usize = 100 << 10;
    for answer in [
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nno",
        "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nno",
    ] {
        let (address, requests) = refuses_early(answer, LENGTH);
        let mut setup = Setup::before_url(&format!("http://{address}"));
        for (path, lines) in [
            ("/once", "delivery = \"at-most-once\""),
            ("/again", "delivery = \"at-least-once\""),
            ("/sync", "mode = \"sync\"\nallow = [\"sync\"]"),
        ] {
            setup = setup.route(&format!("POST {path}"), lines);
        }
        let gateway: Gateway = setup.start().await;
        let body = || vec![b'x'; LENGTH];
        for path in ["/once", "/again"] {
            let ticket = gateway.accept(post(path).body("text/plain", body())).await;
            let document = gateway.settled(&ticket).await;
            assert_eq!(document["error"]["code"], "upstream-status", "{path}: {document}");
            assert_eq!(document["responseStatus"], 400);
            assert_eq!(document["responseFraming"], "close");
            assert_eq!(gateway.get(&ticket.at("result")).await.expect(400).body, b"no");
        }
        for path in ["/sync", "/passed"] {
            let answer = gateway.send(post(path).body("text/plain", body())).await;
            assert_eq!(answer.expect(400).body, b"no", "{path}");
        }
        assert_eq!(requests.load(Ordering::SeqCst), 4, "each was sent once");
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_only_http_2_has_got_nothing_and_the_message_says_what_to_see_to() {
    let upstream = Upstream::start().await;
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    upstream.on("/orders", Answer::Raw(settings.to_vec()));
    let gateway = before(&upstream, "at-most-once", "").route("PUT /x", "").start().await;
    let ticket = gateway.post_order().await;
    let document = gateway.timed_out_by_steps_of(5, &ticket).await;
    let error = &document["error"];
    assert_eq!(
        (&error["code"], &error["cause"]),
        (&json!("attempts-exhausted"), &json!("upstream-unreachable"))
    );
    assert!(error["message"].as_str().unwrap().contains("HTTP/1.1"), "{error}");
}

#[tokio::test]
async fn an_answer_of_a_proxy_in_between_that_is_too_large_leaves_the_outcome_unknown() {
    for status in [502, 504] {
        for (recheck, says, ends, sent) in
            [("", 404, "failed", 1), (RECHECK, 404, "succeeded", 2), (RECHECK, 200, "succeeded", 1)]
        {
            let upstream = Upstream::start().await;
            let page = "x".repeat(2000);
            upstream.script("/orders", [Answer::status(status).body("text/html", page)]);
            upstream.on("/made", Answer::status(says));
            let setup = before(&upstream, "at-most-once", recheck).max_response(1000);
            let gateway = setup.start().await;
            let ticket = gateway.post_order().await;
            let document = gateway.settled_by_steps_of(1, &ticket).await;
            assert_eq!(document["status"], ends, "{status} {recheck} {says}: {document}");
            assert_eq!(upstream.received_at("/orders").len(), sent);
            if ends == "failed" {
                let error = &document["error"];
                assert_eq!(error["code"], "outcome-unknown", "{error}");
                assert_eq!(document["responseStatus"], status);
                let result = gateway.get(&ticket.at("result")).await.problem(424);
                assert_eq!(result["code"], "outcome-unknown", "{result}");
            }
        }
    }
}

const RECHECK: &str = "recheck = \"GET /made?ref={idempotency_key}\"";
