//! Clients that disappear, send slowly, or speak no HTTP.

use crate::support::gateway::order;
use crate::support::{Answer, Connection, Gateway, Request, Setup, Upstream, get, post, time};

#[tokio::test]
async fn a_client_that_vanishes_in_mid_body_leaves_nothing_behind() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for framing in
        ["Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        let mut connection = Connection::open(gateway.public).await;
        connection.send_raw(format!("POST /orders HTTP/1.1\r\nHost: x\r\n{framing}")).await;
        drop(connection);
    }
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    assert_eq!(gateway.listed().await, 1);
    upstream.only();
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_shown_out() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_raw("POST /orders HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    let ended = time::spawn(async move { connection.try_response(false).await });
    gateway
        .while_stepping(5, "the end of its patience", || async {
            ended.is_finished().then_some(())
        })
        .await;
    ended.await.unwrap().unwrap().problem(408);
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_is_shown_out() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&post("/orders").field("Content-Length", "1000")).await;
    connection.send_raw("a few octets").await;
    let answered = time::spawn(async move { connection.try_response(false).await });
    gateway
        .while_stepping(5, "the end of its patience", || async {
            answered.is_finished().then_some(())
        })
        .await;
    answered.await.unwrap().unwrap().problem(408);
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_408_also_where_it_is_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let request = crate::support::Request::new("PUT", "/things/7");
    connection.send_head(&request.field("Content-Length", "1000")).await;
    connection.send_raw("a few octets").await;
    let answered = time::spawn(async move { connection.try_response(false).await });
    gateway
        .while_stepping(5, "the end of its patience", || async {
            answered.is_finished().then_some(())
        })
        .await;
    answered.await.unwrap().unwrap().problem(408);
}

#[tokio::test]
async fn a_body_that_is_framed_wrongly_is_400_also_where_it_is_passed_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let head = "PUT /things/7 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send_raw(format!("{head}5\r\nhello\r\nno length\r\n")).await;
    connection.response().await.problem(400);
}

fn announcing(length: &str) -> String {
    format!("POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn what_cannot_be_read_as_a_request_is_a_problem_too() {
    let upstream = Upstream::start().await;
    // Larger than the longest target that is read at all.
    let gateway = Setup::before(&upstream).set("server", "max_headers = 131072").start().await;
    let (target, long) = ("x".repeat(100_000), "x".repeat(200_000));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\nX Space: a\r\n\r\n".to_owned(), 400),
        ("no request at all\r\n\r\n".to_owned(), 400),
        (format!("GET /{target} HTTP/1.1\r\nHost: x\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(120)), 431),
        (announcing("18446744073709551615"), 413),
        (announcing("18446744073709551614"), 413),
        (announcing("18446744073709551613"), 413),
        (announcing("99999999999999999999999"), 413),
        (announcing("99999999999999999999999x"), 400),
        (announcing("99999999999999999999999\r\nContent-Length: 1"), 400),
    ] {
        // Alone, and behind a request that was answered on the same connection.
        for before in [0, 1, 3] {
            let mut connection = Connection::open(gateway.public).await;
            for _ in 0..before {
                connection.send(&get("/-/operations")).await.expect(200);
            }
            let _ = connection.try_send_raw(&request).await;
            let answer = connection.response().await;
            assert_eq!(answer.expect_field("connection"), "close");
            assert!(answer.field("date").is_some());
            assert_eq!(answer.expect_field("cache-control"), "no-store");
            answer.problem(status);
            assert_eq!(connection.closed().await, b"");
        }
    }
}

#[tokio::test]
async fn a_body_that_looks_like_a_refusal_is_passed_on_untouched() {
    let octets = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let upstream = Upstream::start().await;
    upstream.on("/odd", Answer::status(200).body("message/http", octets));
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    for _ in 0..3 {
        assert_eq!(connection.send(&get("/odd")).await.expect(200).text(), octets);
    }
}

#[tokio::test]
async fn a_client_that_sends_an_octet_a_second_cannot_go_on_for_ever() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send_head(&post("/orders").field("Content-Length", "100000")).await;
    let mut octets = 0;
    while connection.try_send_raw("x").await.is_ok() && octets < 20_000 {
        octets += 1;
        gateway.advance(1);
        if octets % 10 == 0 {
            gateway.get("/-/operations").await.expect(200);
        }
    }
    assert!(octets < 20_000, "still reading after {octets} seconds");
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_some_time() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    connection.send(&order()).await.expect(202);
    let ended = time::spawn(async move { connection.closed().await });
    gateway
        .while_stepping(10, "the end of an idle connection", || async {
            ended.is_finished().then_some(())
        })
        .await;
}

#[tokio::test]
async fn many_slow_clients_keep_nobody_else_out() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut connection = Connection::open(gateway.public).await;
        connection.send_raw("POST /orders HTTP/1.1\r\nHost: x\r\nContent-").await;
        slow.push(connection);
    }
    let ticket = gateway.post_order().await;
    assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn a_body_that_is_not_what_it_says_is_the_upstreams_to_judge() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(400).body("text/plain", "no JSON"));
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(post("/orders").body("application/json", "{\"sku\":")).await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "upstream-status");
    assert_eq!(upstream.only().body, b"{\"sku\":");
    assert_eq!(gateway.get(&ticket.at("result")).await.expect(400).text(), "no JSON");
}

#[tokio::test]
async fn wrong_tickets_of_every_shape_are_404() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for ticket in [
        "x",
        "0",
        "%20",
        "%C3%A9",
        "%FF%FE",
        "00000000-0000-7000-8000-000000000000",
        "00000000-0000-7000-8000-000000000000-00000000000000000000000000000000",
        &"9".repeat(4000),
        "'%20OR%201=1--",
        "%22",
    ] {
        gateway.get(&format!("/-/operations/{ticket}")).await.problem(404);
        gateway.get(&format!("/-/operations/{ticket}/result")).await.problem(404);
    }
}

#[tokio::test]
async fn wrong_methods_under_the_prefix_are_405_that_names_the_right_ones() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    for (method, target) in [
        ("PUT", ticket.monitor.clone()),
        ("POST", ticket.monitor.clone()),
        ("PATCH", ticket.at("result")),
        ("DELETE", ticket.at("events")),
        ("POST", "/-/operations".to_owned()),
    ] {
        let answer = gateway.send(crate::support::Request::new(method, &*target)).await;
        let allow = answer.expect_field("allow").to_owned();
        assert!(allow.contains("GET"), "{method} {target}: {allow}");
        answer.problem(405);
    }
    gateway.get(&ticket.monitor).await.expect(303);
}

#[tokio::test]
async fn fields_in_any_octets_are_carried_faithfully_or_refused() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let mut connection = Connection::open(gateway.public).await;
    let head =
        b"POST /orders HTTP/1.1\r\nHost: x\r\nX-Octets: \xe9\xff\xfe\r\nContent-Length: 0\r\n\r\n";
    connection.send_raw(head).await;
    let answer = connection.response().await;
    assert!(matches!(answer.status, 202 | 400), "{answer:?}");
    if answer.status == 202 {
        let ticket = crate::support::Ticket::of(&answer);
        assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_400_not_500() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for query in ["status=%FF", "limit=99999999999999999999", "page=x", "cursor=%00", "since=1e999"]
    {
        let answer = gateway.send(get(format!("/-/operations?{query}"))).await;
        assert!(answer.status < 500, "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn a_browsers_preflight_of_nothing_is_no_error() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).start().await;
    let options = crate::support::Request::new("OPTIONS", "/orders");
    assert!(gateway.send(options).await.status < 500);
    let asterisk = crate::support::Request::new("PUT", "*");
    gateway.send(asterisk).await.problem(400);
    let star = crate::support::Request::new("OPTIONS", "*");
    assert!(gateway.send(star).await.status < 500);
}

#[tokio::test]
async fn a_client_that_ends_its_side_after_a_whole_request_gets_its_answer() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    for (request, status) in [
        (order(), 202),
        (get(ticket.at("status")), 200),
        (get(&*ticket.monitor), 303),
        (get("/catalogue"), 200),
        (Request::new("PUT", "/things/7").body("text/plain", "x"), 200),
        (get("/-/nothing"), 404),
    ] {
        let mut connection = Connection::open(gateway.public).await;
        connection.send_raw(request.bytes(gateway.public)).await;
        connection.end_sending().await;
        connection.response().await.expect(status);
        assert!(connection.closed().await.is_empty());
    }
}

#[tokio::test]
async fn one_that_waits_for_an_answer_gets_that_too() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let synchronous = post("/orders/held").field("Expect", "201-created");
    for (path, request, status) in [
        ("/orders/held", synchronous.body("text/plain", "x"), 201),
        ("/catalogue/held", get("/catalogue/held"), 200),
    ] {
        upstream.hold(path);
        let mut connection = Connection::open(gateway.public).await;
        connection.send_raw(request.bytes(gateway.public)).await;
        connection.end_sending().await;
        upstream.until_received(path, 1).await;
        upstream.release(path);
        connection.response().await.expect(status);
    }
    assert_eq!(upstream.dropped(), 0);
}

#[tokio::test]
async fn one_that_ends_its_side_within_a_body_has_sent_none() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for framing in
        ["Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        for line in ["POST /orders", "PUT /things/7"] {
            let mut connection = Connection::open(gateway.public).await;
            connection.send_raw(format!("{line} HTTP/1.1\r\nHost: x\r\n{framing}")).await;
            connection.end_sending().await;
            let answer = String::from_utf8(connection.closed().await).unwrap();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
    }
    assert_eq!(gateway.listed().await, 0);
    assert!(upstream.received_at("/orders").is_empty());
}
