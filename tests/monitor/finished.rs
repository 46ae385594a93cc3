//! The answer of a finished operation's monitor.

use crate::support::upstream::closed_port;
use crate::support::{Answer, Gateway, Request, Response, Setup, Ticket, Upstream, get};

/// The 303 of an order that the upstream answers like this.
async fn monitor_after(answer: Answer) -> (Upstream, Gateway, Ticket, Response) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", answer);
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let end = gateway.get(&ticket.monitor).await.expect(303);
    (upstream, gateway, ticket, end)
}

fn result_of(gateway: &Gateway, ticket: &Ticket) -> String {
    format!("{}{}/result", gateway.origin(), ticket.monitor)
}

#[tokio::test]
async fn it_sends_to_what_the_upstream_created_on_the_public_origin() {
    let (upstream, gateway, ticket, end) = monitor_after(Answer::Orders).await;
    assert_eq!(end.field("location"), Some(&*format!("{}/orders/1", gateway.origin())));
    assert_eq!(gateway.document(&ticket).await["createdLocation"], end.expect_field("location"));
    let shown = gateway.get("/orders/1").await.expect(200);
    assert_eq!(shown.json(), serde_json::json!({"shown": "/orders/1"}));
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_location_that_names_the_upstream_itself_is_put_on_the_public_origin() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for (location, wanted) in [
        (format!("{}/orders/7?x=1", upstream.url()), "/orders/7?x=1"),
        ("7".to_owned(), "/7"),
        ("/a/b".to_owned(), "/a/b"),
        (format!("//{}/orders/8", upstream.address), "/orders/8"),
    ] {
        upstream.on("/orders", Answer::status(201).field("Location", &location));
        let ticket = gateway.post_order().await;
        gateway.settled(&ticket).await;
        let end = gateway.get(&ticket.monitor).await.expect(303);
        let wanted = format!("{}{wanted}", gateway.origin());
        assert_eq!(end.field("location"), Some(&*wanted), "{location}");
    }
}

#[tokio::test]
async fn a_location_on_the_public_origin_or_with_the_outside_scheme_is_the_gateways_own() {
    let upstream = Upstream::start().await;
    let base = "https://api.example.com/base";
    let public = format!("public_url = {base:?}");
    let gateway = Setup::before(&upstream).set("server", &public).start().await;
    for location in [
        "https://api.example.com/orders/7".to_owned(),
        "https://api.example.com/base/orders/7".to_owned(),
        "http://api.example.com/orders/7".to_owned(),
        format!("https://{}/orders/7", upstream.address),
        "https://api.example.com/base?order=7".to_owned(),
    ] {
        for status in [201, 303] {
            upstream.on("/orders", Answer::status(status).field("Location", &location));
            let answer = gateway.send(crate::support::gateway::order()).await.expect(202);
            let monitor = answer.expect_field("location").strip_prefix(base).unwrap().to_owned();
            let ticket = Ticket { id: String::new(), monitor };
            gateway.settled(&ticket).await;
            let end = gateway.get(&ticket.monitor).await.expect(303);
            let is_root = location.ends_with("?order=7");
            let wanted = format!("{base}/{}", if is_root { "?order=7" } else { "orders/7" });
            assert_eq!(end.field("location"), Some(&*wanted), "{status} {location}");
        }
    }
}

#[tokio::test]
async fn without_a_public_url_the_origin_of_the_reader_is_the_gateways_own() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).listen_everywhere().start().await;
    for (location, wanted) in [
        ("https://shop.example:8443/orders/7", Some("http://shop.example:8443/orders/7")),
        ("http://shop.example:8443/orders/7?a", Some("http://shop.example:8443/orders/7?a")),
        ("https://shop.example/orders/7", None),
        ("https://elsewhere.example/orders/7", None),
    ] {
        upstream.on("/orders", Answer::status(201).field("Location", location));
        let ticket = gateway.post_order().await;
        gateway.settled(&ticket).await;
        let reader = |target: &str| get(target).field("Host", "shop.example:8443");
        let end = gateway.send(reader(&ticket.monitor)).await.expect(303);
        let result = format!("http://shop.example:8443{}", ticket.at("result"));
        assert_eq!(end.field("location"), Some(wanted.unwrap_or(&result)), "{location}");
        let document = gateway.send(reader(&ticket.at("status"))).await.expect(200).json();
        assert_eq!(document["createdLocation"], wanted.unwrap_or(location));
        // For a reader by another name, the place is foreign.
        let end = gateway.get(&ticket.monitor).await.expect(303);
        assert_eq!(end.field("location"), Some(&*result_of(&gateway, &ticket)), "{location}");
    }
}

#[tokio::test]
async fn a_host_that_a_trusted_proxy_names_has_the_path_of_the_public_url_before_it_too() {
    let upstream = Upstream::start().await;
    let base = "https://api.example.com/base";
    let lines = format!("public_url = {base:?}\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let gateway = Setup::before(&upstream).set("server", &lines).start().await;
    for location in ["https://two.example/base/orders/7", "https://two.example/orders/7"] {
        upstream.on("/orders", Answer::status(201).field("Location", location));
        let order = crate::support::gateway::order().field("X-Forwarded-Host", "two.example");
        let answer = gateway.send(order).await.expect(202);
        let monitor = answer.expect_field("location").strip_prefix(base).unwrap().to_owned();
        let ticket = Ticket { id: String::new(), monitor };
        gateway.settled(&ticket).await;
        let end = gateway.get(&ticket.monitor).await.expect(303);
        assert_eq!(end.field("location"), Some(&*format!("{base}/orders/7")), "{location}");
    }
}

#[tokio::test]
async fn octets_of_latin_1_in_a_location_are_percent_encoded() {
    let raw = b"HTTP/1.1 201 Created\r\nLocation: /caf\xe9\r\nContent-Length: 0\r\n\r\n";
    let (_upstream, gateway, _ticket, end) = monitor_after(Answer::Raw(raw.to_vec())).await;
    assert_eq!(end.field("location"), Some(&*format!("{}/caf%E9", gateway.origin())));
}

#[tokio::test]
async fn redirects_in_answer_to_a_post_have_created_what_they_point_to() {
    for status in [302, 303] {
        let answer = Answer::status(status).field("Location", "/orders/7");
        let (upstream, gateway, ticket, end) = monitor_after(answer).await;
        assert_eq!(end.field("location"), Some(&*format!("{}/orders/7", gateway.origin())));
        assert_eq!(gateway.document(&ticket).await["status"], "succeeded", "{status}");
        upstream.only();
    }
}

#[tokio::test]
async fn redirects_in_answer_to_anything_else_are_a_failure() {
    for status in [302, 303] {
        let upstream = Upstream::start().await;
        upstream.on("/things/7", Answer::status(status).field("Location", "/elsewhere"));
        let gateway = Setup::before(&upstream).route("PUT /things/{id}", "").start().await;
        let ticket = gateway.accept(Request::new("PUT", "/things/7")).await;
        let document = gateway.settled(&ticket).await;
        assert_eq!(document["error"]["code"], "upstream-redirect", "{status}: {document}");
        upstream.only();
    }
}

#[tokio::test]
async fn a_location_on_a_foreign_origin_goes_through_the_result() {
    for location in ["https://elsewhere.example/orders/7", "//elsewhere.example/7"] {
        let answer = Answer::status(201).field("Location", location);
        let (_upstream, gateway, ticket, end) = monitor_after(answer).await;
        assert_eq!(end.field("location"), Some(&*result_of(&gateway, &ticket)), "{location}");
    }
}

#[tokio::test]
async fn a_location_on_a_foreign_origin_is_led_to_where_the_route_allows_it() {
    let upstream = Upstream::start().await;
    let location = "https://elsewhere.example/orders/7";
    upstream.on("/orders", Answer::status(201).field("Location", location));
    let lines = "foreign_location = true";
    let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let end = gateway.get(&ticket.monitor).await.expect(303);
    assert_eq!(end.field("location"), Some(location));
}

#[tokio::test]
async fn a_location_that_is_no_http_url_goes_through_the_result() {
    for location in [
        "javascript:alert(1)",
        "data:text/html,hello",
        "file:///etc/passwd",
        "JaVaScRiPt:alert(1)",
        "http://[::1",
        "http://user:secret@elsewhere.example/",
        "\\\\elsewhere.example\\7",
        "/\\elsewhere.example/7",
    ] {
        let answer = Answer::status(201).field("Location", location);
        let (_upstream, gateway, ticket, end) = monitor_after(answer).await;
        let target = end.expect_field("location");
        assert!(target.starts_with(&gateway.origin()), "{location}: {target}");
        assert!(!target.contains('\\') && !target.contains("alert"), "{location}: {target}");
        assert_eq!(gateway.document(&ticket).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn a_location_with_control_characters_never_comes_out() {
    for octet in [b'\x01', b'\x7f', b'\t'] {
        let upstream = Upstream::start().await;
        let head = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nLocation: /orders/";
        upstream.on("/orders", Answer::Raw([head, &[octet][..], b"7\r\n\r\n"].concat()));
        let gateway = Gateway::before(&upstream).await;
        let ticket = gateway.post_order().await;
        gateway.settled(&ticket).await;
        let end = gateway.get(&ticket.monitor).await.expect(303);
        assert!(!end.expect_field("location").bytes().any(|b| b == octet), "{octet}");
        assert_eq!(upstream.received().len(), 1);
    }
}

#[tokio::test]
async fn without_a_created_location_it_sends_to_the_result() {
    for answer in [
        Answer::status(200).body("text/plain", "done"),
        Answer::status(201),
        Answer::status(204),
        Answer::status(200).field("Location", "/not-created"),
        Answer::status(404),
        Answer::status(422).body("text/plain", "no"),
    ] {
        let (_upstream, gateway, ticket, end) = monitor_after(answer.clone()).await;
        assert_eq!(end.field("location"), Some(&*result_of(&gateway, &ticket)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_failure_without_any_answer_sends_to_the_result_too() {
    let address = closed_port().await;
    let lines = "retry = { attempts = 1 }";
    let gateway =
        Setup::before_url(&format!("http://{address}")).route("POST /orders", lines).start().await;
    let ticket = gateway.post_order().await;
    gateway.settled_by_steps_of(1, &ticket).await;
    let end = gateway.until_finished(&ticket).await;
    assert_eq!(end.field("location"), Some(&*result_of(&gateway, &ticket)));
}

#[tokio::test]
async fn a_canceled_operation_sends_to_the_result_too() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let order = crate::support::gateway::order().field("Operation-Delay", "3600");
    let ticket = gateway.accept(order).await;
    gateway.send(crate::support::post(ticket.at("cancel"))).await.expect(200);
    let end = gateway.get(&ticket.monitor).await.expect(303);
    assert_eq!(end.field("location"), Some(&*result_of(&gateway, &ticket)));
}

#[tokio::test]
async fn every_answer_of_a_finished_monitor_is_kept_out_of_caches() {
    let (_upstream, gateway, ticket, end) = monitor_after(Answer::Orders).await;
    assert_eq!(end.field("cache-control"), Some("no-store"));
    assert_eq!(end.field("referrer-policy"), Some("no-referrer"));
    assert_eq!(end.field("gateway-origin"), Some("cloakroom"));
    let head = gateway.send(Request::new("HEAD", &*ticket.monitor)).await.expect(303);
    assert_eq!(head.field("location"), end.field("location"));
    gateway.send(get(&*ticket.monitor).field("Prefer", "wait=45")).await.expect(303);
}
