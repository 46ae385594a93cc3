//! The recorded answer.

use crate::support::gateway::order;
use crate::support::upstream::closed_port;
use crate::support::{Answer, Gateway, Request, Response, Setup, Ticket, Upstream, get, post};

async fn recorded(answer: Answer) -> (Gateway, Ticket) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", answer);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    (gateway, ticket)
}

async fn result(gateway: &Gateway, ticket: &Ticket) -> Response {
    gateway.get(&ticket.at("result")).await
}

#[tokio::test]
async fn it_is_the_recorded_body_and_fields_as_often_as_one_asks() {
    let answer = Answer::status(200).field("X-Own", "kept").body("text/csv", "a,b\n1,2\n");
    let (gateway, ticket) = recorded(answer).await;
    for _ in 0..2 {
        let result = result(&gateway, &ticket).await.expect(200);
        assert_eq!(result.text(), "a,b\n1,2\n");
        assert_eq!(result.field("content-type"), Some("text/csv"));
        assert_eq!(result.field("x-own"), Some("kept"));
        assert_eq!(result.field("upstream-status"), Some("200"));
        gateway.advance(3600);
    }
}

#[tokio::test]
async fn a_large_answer_comes_back_octet_for_octet() {
    let body: Vec<u8> = (0..=255).rev().cycle().take(3_000_000).collect();
    let answer = Answer::status(200).body("application/octet-stream", &*body);
    let (gateway, ticket) = recorded(answer).await;
    assert!(result(&gateway, &ticket).await.expect(200).body == body);
}

#[tokio::test]
async fn what_a_browser_could_be_led_astray_by_is_fenced_in() {
    let answer = Answer::status(200).body("text/html", "<script>alert(1)</script>");
    let (gateway, ticket) = recorded(answer).await;
    let result = result(&gateway, &ticket).await.expect(200);
    assert_eq!(result.all("cache-control"), ["private, no-store"]);
    assert_eq!(result.all("x-content-type-options"), ["nosniff"]);
    assert_eq!(result.all("content-security-policy"), ["sandbox; default-src 'none'"]);
}

#[tokio::test]
async fn what_belonged_to_the_original_exchange_is_never_replayed() {
    let names = [
        "Set-Cookie",
        "Location",
        "Refresh",
        "Retry-After",
        "WWW-Authenticate",
        "Proxy-Authenticate",
        "Proxy-Connection",
        "Clear-Site-Data",
        "Strict-Transport-Security",
        "Alt-Svc",
        "Service-Worker-Allowed",
        "X-Accel-Redirect",
        "X-Accel-Buffering",
        "X-Accel-Expires",
        "X-Sendfile",
        "Azure-AsyncOperation",
        "NEL",
        "Report-To",
        "Surrogate-Key",
        "Cache-Status",
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
        "Expires",
        "Age",
        "Pragma",
        "ETag",
        "Last-Modified",
        "Vary",
        "Warning",
        "CDN-Cache-Control",
        "Access-Control-Allow-Credentials",
        "Proxy-Authorization",
        "Preference-Applied",
        "Operation-Progress-Url",
        "Surrogate-Control",
        "Keep-Alive",
        "Trailer",
        "X-Named-By-Connection",
        "Operation-Id",
        "Operation-Location",
        "X-Progress",
        "Idempotency-Replayed",
    ];
    let mut answer = Answer::status(200)
        .field("Connection", "X-Named-By-Connection")
        .field("Upstream-Status", "999")
        .field("Gateway-Origin", "forged")
        .field("Cache-Control", "public, max-age=600");
    for name in names {
        answer = answer.field(name, "from the upstream");
    }
    let (gateway, ticket) = recorded(answer.body("text/plain", "x")).await;
    let result = result(&gateway, &ticket).await.expect(200);
    for name in names {
        assert!(!result.all(name).contains(&"from the upstream"), "{name}: {result:?}");
    }
    assert_eq!(result.all("upstream-status"), ["200"]);
    assert_eq!(result.all("gateway-origin"), ["upstream"]);
    assert_eq!(result.all("cache-control"), ["private, no-store"]);
}

#[tokio::test]
async fn it_names_places_on_the_origin_of_its_reader_and_never_the_upstream() {
    let upstream = Upstream::start().await;
    let up = upstream.address.to_string();
    let there = |place: &str| place.replace("UP", &up);
    let answer = Answer::status(201)
        .field("Location", &there("http://UP/orders/7"))
        .field("Content-Location", &there("https://UP/orders/7?v=1"))
        .field("Content-Location", &there("http://UP/orders/8"))
        .field("Link", &there("<http://UP/orders?page=2>; rel=next, <8>; rel=up"))
        .field("Link", &there("<https://x.example/>; anchor=\"//UP/a\""))
        .field("Azure-AsyncOperation", &there("http://UP/jobs/1"));
    upstream.on("/orders", answer);
    let gateway = Setup::before(&upstream).listen_everywhere().start().await;
    let ticket = {
        let accepted = gateway.send(order().field("Host", "one.example")).await.expect(202);
        let monitor = accepted.expect_field("location").strip_prefix("http://one.example");
        Ticket { id: String::new(), monitor: monitor.unwrap().to_owned() }
    };
    gateway.settled(&ticket).await;
    let result = get(ticket.at("result")).field("Host", "two.example:81");
    let result = gateway.send(result).await.expect(200);
    let said = format!("{:?}", result.fields);
    assert!(!said.contains(&up) && !said.contains("one.example"), "{said}");
    assert_eq!(result.all("content-location"), ["http://two.example:81/orders/7?v=1"]);
    let links = [
        "<http://two.example:81/orders?page=2>; rel=next, <http://two.example:81/8>; rel=up",
        "<https://x.example/>; anchor=\"http://two.example:81/a\"",
    ];
    assert_eq!(result.all("link"), links);
}

#[tokio::test]
async fn a_synchronous_answer_names_places_on_the_public_origin() {
    let upstream = Upstream::start().await;
    let up = upstream.address.to_string();
    let answer = Answer::status(201)
        .field("Location", &format!("https://{up}/orders/7"))
        .field("Location", &format!("http://{up}/orders/8"))
        .field("Content-Location", "7?v=1")
        .field("Link", &format!("<http://{up}/orders?page=2>; rel=next"));
    upstream.on("/shop/orders", answer);
    let public = "public_url = \"https://api.example.com/base\"";
    let gateway = Setup::before(&upstream)
        .set("server", public)
        .route("POST /shop/orders", "mode = \"sync\"")
        .start()
        .await;
    let answer = gateway.send(post("/shop/orders")).await.expect(201);
    let base = "https://api.example.com/base";
    assert_eq!(answer.all("location"), [format!("{base}/orders/7")]);
    assert_eq!(answer.all("content-location"), [format!("{base}/shop/7?v=1")]);
    assert_eq!(answer.all("link"), [format!("<{base}/orders?page=2>; rel=next")]);
}

#[tokio::test]
async fn a_recorded_success_is_200_but_204_stays_204() {
    for (recorded_status, status) in [(200, 200), (201, 200), (203, 200), (204, 204)] {
        let (gateway, ticket) = recorded(Answer::status(recorded_status)).await;
        let result = result(&gateway, &ticket).await.expect(status);
        assert_eq!(result.field("upstream-status"), Some(&*recorded_status.to_string()));
    }
}

#[tokio::test]
async fn a_redirect_that_counts_as_success_is_200() {
    let answer = Answer::status(302).field("Location", "/orders/7").body("text/plain", "there");
    let (gateway, ticket) = recorded(answer).await;
    let result = result(&gateway, &ticket).await.expect(200);
    assert_eq!(result.field("upstream-status"), Some("302"));
    assert_eq!(result.text(), "there");
}

#[tokio::test]
async fn a_recorded_error_keeps_its_status_and_body() {
    for status in [400, 403, 404, 409, 410, 422, 451, 501, 505] {
        let answer = Answer::status(status).body("text/plain", "why");
        let (gateway, ticket) = recorded(answer).await;
        let result = result(&gateway, &ticket).await.expect(status);
        assert_eq!(result.text(), "why");
        assert_eq!(result.field("upstream-status"), Some(&*status.to_string()));
    }
}

#[tokio::test]
async fn errors_that_clients_and_caches_would_act_on_are_424_with_the_recorded_body() {
    for status in [401, 407, 408, 421, 425, 429, 500, 502, 503, 504] {
        let upstream = Upstream::start().await;
        upstream.on("/orders", Answer::status(status).body("text/plain", "why"));
        let lines = "retry = { attempts = 1 }\ndeadline = \"10s\"";
        let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
        let ticket = gateway.post_order().await;
        gateway.settled_by_steps_of(1, &ticket).await;
        let result = result(&gateway, &ticket).await.expect(424);
        assert_eq!(result.text(), "why", "{status}");
        assert_eq!(result.field("upstream-status"), Some(&*status.to_string()));
    }
}

#[tokio::test]
async fn without_an_answer_of_the_upstream_it_is_a_424_problem() {
    let address = closed_port().await;
    let gateway = Setup::before_url(&format!("http://{address}"))
        .route("POST /orders", "retry = { attempts = 1 }")
        .start()
        .await;
    let ticket = gateway.post_order().await;
    gateway.settled_by_steps_of(1, &ticket).await;
    let problem = result(&gateway, &ticket).await.problem(424);
    assert!(problem.to_string().contains("upstream-unreachable"), "{problem}");
}

#[tokio::test]
async fn of_a_canceled_operation_it_is_a_409_problem() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "3600")).await;
    gateway.send(post(ticket.at("cancel"))).await.expect(200);
    result(&gateway, &ticket).await.problem(409);
}

#[tokio::test]
async fn of_a_pending_operation_it_is_202_with_the_monitor() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Operation-Delay", "3600")).await;
    let answer = result(&gateway, &ticket).await.expect(202);
    let monitor = format!("{}{}", gateway.origin(), ticket.monitor);
    assert_eq!(answer.field("location"), Some(&*monitor));
}

#[tokio::test]
async fn a_range_of_it_can_be_asked_for() {
    let (gateway, ticket) = recorded(Answer::status(200).body("text/plain", "0123456789")).await;
    for (range, part, content_range) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
    ] {
        let request = get(ticket.at("result")).field("Range", range);
        let result = gateway.send(request).await.expect(206);
        assert_eq!(result.text(), part, "{range}");
        assert_eq!(result.field("content-range"), Some(content_range));
        assert_eq!(result.field("upstream-status"), Some("200"));
    }
    let beyond = get(ticket.at("result")).field("Range", "bytes=10-");
    let answer = gateway.send(beyond).await.expect(416);
    assert_eq!(answer.field("content-range"), Some("bytes */10"));
}

#[tokio::test]
async fn a_range_of_a_large_answer_crosses_what_it_is_stored_in() {
    let body: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let (gateway, ticket) =
        recorded(Answer::status(200).body("application/octet-stream", &*body)).await;
    let request = get(ticket.at("result")).field("Range", "bytes=262000-525000");
    let result = gateway.send(request).await.expect(206);
    assert!(result.body == body[262_000..=525_000]);
}

#[tokio::test]
async fn its_etag_saves_sending_it_again() {
    let (gateway, ticket) = recorded(Answer::status(200).body("text/plain", "hello")).await;
    let etag = result(&gateway, &ticket).await.expect(200).expect_field("etag").to_owned();
    let again = get(ticket.at("result")).field("If-None-Match", &*etag);
    let unchanged = gateway.send(again).await.expect(304);
    assert_eq!(unchanged.field("upstream-status"), Some("200"));
    let other = get(ticket.at("result")).field("If-None-Match", "\"other\"");
    gateway.send(other).await.expect(200);
    let stale = get(ticket.at("result")).field("Range", "bytes=0-1").field("If-Range", "\"old\"");
    assert_eq!(gateway.send(stale).await.expect(200).text(), "hello");
}

#[tokio::test]
async fn head_tells_its_length_without_its_body() {
    let (gateway, ticket) = recorded(Answer::status(200).body("text/plain", "hello")).await;
    let head = gateway.send(Request::new("HEAD", ticket.at("result"))).await.expect(200);
    assert_eq!(head.field("content-length"), Some("5"));
    assert_eq!(head.body, b"");
}

#[tokio::test]
async fn what_any_tag_matches_is_not_sent_again_and_beyond_its_end_is_416() {
    let (gateway, ticket) = recorded(Answer::status(200).body("text/plain", "0123456789")).await;
    let at = || get(ticket.at("result"));
    let answer = gateway.send(at().field("If-None-Match", "*")).await.expect(304);
    assert!(answer.body.is_empty());
    // A star among tags is no list of tags.
    gateway.send(at().field("If-None-Match", "\"other\", *")).await.expect(200);
    let beyond = gateway.send(at().field("Range", "bytes=10-")).await;
    assert_eq!(beyond.field("content-range"), Some("bytes */10"));
    beyond.problem(416);
    let first = gateway.send(at().field("Range", "bytes=0-0")).await.expect(206);
    assert_eq!((first.field("content-range"), &*first.body), (Some("bytes 0-0/10"), &b"0"[..]));
    // What changed since is given whole, and so is what several ranges ask for.
    for fields in [
        [("Range", "bytes=1-2"), ("If-Range", "\"old\"")],
        [("Range", "bytes=0-1,4-5"), ("A", "b")],
    ] {
        let request =
            fields.iter().fold(at(), |request, (name, value)| request.field(name, *value));
        assert_eq!(gateway.send(request).await.expect(200).body, b"0123456789");
    }
}

#[tokio::test]
async fn of_a_head_request_it_is_the_fields_whatever_length_they_tell() {
    let upstream = Upstream::start().await;
    let promised = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 99999999999\r\n\r\n";
    upstream.on("/orders", Answer::Raw(promised.to_vec()));
    let gateway = Setup::before(&upstream).route("HEAD /orders", "mode = \"async\"").start().await;
    let ticket = Ticket::of(&gateway.send(Request::new("HEAD", "/orders")).await.expect(202));
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    let answer = result(&gateway, &ticket).await.expect(200);
    assert_eq!((answer.field("a"), answer.body.len()), (Some("b"), 0));
}

#[tokio::test]
async fn whatever_is_said_of_it_names_the_status_that_the_upstream_answered_with() {
    let (gateway, ticket) = recorded(Answer::status(201).body("text/plain", "0123456789")).await;
    let at = || get(ticket.at("result"));
    let etag = gateway.send(at()).await.expect(200).expect_field("etag").to_owned();
    for (request, status) in [
        (at(), 200),
        (Request::new("HEAD", ticket.at("result")), 200),
        (at().field("Range", "bytes=0-1"), 206),
        (at().field("If-None-Match", &*etag), 304),
        (at().field("Range", "bytes=10-"), 416),
    ] {
        let answer = gateway.send(request).await.expect(status);
        assert_eq!(answer.all("upstream-status"), ["201"], "{status}");
        assert_eq!(answer.all("operation-id"), [&*ticket.id], "{status}");
    }
    gateway.send(Request::new("DELETE", &*ticket.monitor)).await.expect(204);
    let gone = gateway.send(at()).await.expect(410);
    assert_eq!(gone.all("upstream-status"), ["201"]);
}

#[tokio::test]
async fn an_answer_that_was_too_large_to_keep_still_tells_its_status() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(201).body("text/plain", vec![b'x'; 5000]));
    let gateway = Setup::before(&upstream).max_response(4096).start().await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let answer = result(&gateway, &ticket).await.expect(424);
    assert_eq!(answer.all("upstream-status"), ["201"]);
    assert_eq!(answer.json()["error"]["code"], "response-too-large");
}
