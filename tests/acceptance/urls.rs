//! The URLs in answers, and the choice of the upstream.

use crate::support::gateway::order;
use crate::support::{Answer, Connection, Gateway, Setup, Upstream, get, post};

#[tokio::test]
async fn urls_are_built_from_the_public_url_which_may_have_a_path() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("server", "public_url = \"https://api.example.com/base\"")
        .start()
        .await;
    let answer = gateway.send(order()).await.expect(202);
    let location = answer.expect_field("location");
    assert!(location.starts_with("https://api.example.com/base/-/operations/"), "{location}");
}

#[tokio::test]
async fn on_loopback_the_host_of_a_request_is_not_echoed_into_urls() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let request = order()
        .field("Host", "evil.example")
        .field("X-Forwarded-Host", "evil.example")
        .field("Forwarded", "host=evil.example");
    let answer = gateway.send(request).await.expect(202);
    assert!(answer.expect_field("location").starts_with(&gateway.origin()));
    assert!(!answer.text().contains("evil.example"), "{}", answer.text());
}

#[tokio::test]
async fn on_any_address_links_follow_the_host_of_their_own_request() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).listen_everywhere().start().await;
    let answer = gateway.send(order().field("Host", "one.example:81")).await.expect(202);
    let location = answer.expect_field("location");
    assert!(location.starts_with("http://one.example:81/-/operations/"), "{location}");
    let ticket = location.strip_prefix("http://one.example:81").unwrap();
    let status = crate::support::get(format!("{ticket}/status")).field("Host", "two.example");
    let document = gateway.send(status).await.expect(200).text();
    assert!(document.contains("two.example"), "{document}");
    assert!(!document.contains("one.example"), "what another request said: {document}");
}

#[tokio::test]
async fn on_any_address_a_trusted_proxy_says_what_the_public_origin_is() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .listen_everywhere()
        .set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    let by_x = order().field("X-Forwarded-Host", "api.example").field("X-Forwarded-Proto", "https");
    let standard = order().field("Forwarded", "for=192.0.2.1;host=api.example;proto=https");
    for request in [by_x, standard] {
        let answer = gateway.send(request).await.expect(202);
        let location = answer.expect_field("location");
        assert!(location.starts_with("https://api.example/-/operations/"), "{location}");
    }
}

#[tokio::test]
async fn on_any_address_nobody_else_says_what_the_public_origin_is() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).listen_everywhere().start().await;
    let request = order()
        .field("Host", "mine.example")
        .field("X-Forwarded-Host", "evil.example")
        .field("X-Forwarded-Proto", "https")
        .field("Forwarded", "host=evil.example;proto=https");
    let answer = gateway.send(request).await.expect(202);
    let location = answer.expect_field("location");
    assert!(location.starts_with("http://mine.example/-/operations/"), "{location}");
}

#[tokio::test]
async fn the_authority_of_an_absolute_form_target_never_chooses_the_upstream() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let other = Upstream::start().await;
    let mut connection = Connection::open(gateway.public).await;
    let target = format!("http://{}/orders", other.address);
    connection
        .send_raw(format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            other.address
        ))
        .await;
    connection.response().await.expect(202);
    upstream.until_received("/orders", 1).await;
    assert_eq!(upstream.only().target, "/orders");
    assert_eq!(upstream.only().expect_field("host"), upstream.address.to_string());
    assert!(other.received().is_empty());
}

#[tokio::test]
async fn the_upstream_is_sent_its_own_authority_as_host() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.accept(order().field("Host", "api.example.com")).await;
    gateway.settled(&ticket).await;
    assert_eq!(upstream.only().all("host"), [upstream.address.to_string()]);
}

#[tokio::test]
async fn preserve_host_sends_the_host_of_the_request() {
    let upstream = Upstream::start().await;
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "preserve_host = true").start().await;
    let ticket = gateway.accept(order().field("Host", "api.example.com")).await;
    gateway.settled(&ticket).await;
    assert_eq!(upstream.only().all("host"), ["api.example.com"]);
}

#[tokio::test]
async fn preserve_host_sends_the_same_host_on_every_attempt_and_retry() {
    let upstream = Upstream::start().await;
    upstream.script("/orders", [Answer::status(503).field("Retry-After", "30")]);
    let gateway =
        Setup::before(&upstream).set("upstreams.default", "preserve_host = true").start().await;
    let ticket = gateway.accept(order().field("Host", "tenant.example")).await;
    upstream.until_received("/orders", 1).await;
    gateway.until_status(&ticket, "queued").await;
    let gateway = gateway.restart().await;
    gateway.settled_by_steps_of(10, &ticket).await;
    let retry = format!("/-/operations/{}/retry", ticket.id);
    gateway.admin(post(retry).json(&serde_json::json!({}))).await.expect(202);
    for received in upstream.until_received("/orders", 3).await {
        assert_eq!(received.all("host"), ["tenant.example"]);
        let told = received.field("x-forwarded-host").unwrap_or_default();
        assert!(!told.contains("tenant"), "{received:?}");
    }
}

#[tokio::test]
async fn preserve_host_keeps_that_of_a_trusted_proxy_where_a_public_url_is_set() {
    let upstream = Upstream::start().await;
    for (trusted, host) in [("127.0.0.0/8", "tenant.example"), ("10.0.0.0/8", "api.example.com")] {
        let server =
            format!("public_url = \"https://api.example.com\"\ntrusted_proxies = [\"{trusted}\"]");
        let gateway = Setup::before(&upstream)
            .set("server", &server)
            .set("upstreams.default", "preserve_host = true")
            .start()
            .await;
        let before = upstream.requests();
        gateway.accept(order().field("Host", "tenant.example")).await;
        let received = upstream.until_received("/orders", before + 1).await;
        assert_eq!(received[before].all("host"), [host]);
    }
}

#[tokio::test]
async fn an_absolute_form_target_is_proxied_to_the_upstream_and_only_its_path_is_sent() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let other = Upstream::start().await;
    let target = format!("http://{}/catalogue?a=1", other.address);
    get(target).field("Host", other.address.to_string()).send(gateway.public).await.expect(200);
    assert_eq!(upstream.only().target, "/catalogue?a=1");
    assert_eq!(upstream.only().all("host"), [upstream.address.to_string()]);
    assert!(other.received().is_empty());
    let under_the_prefix = format!("http://{}/-/nothing", other.address);
    gateway.get(&under_the_prefix).await.problem(404);
}

#[tokio::test]
async fn a_host_is_in_its_own_answer_only() {
    let upstream = Upstream::start().await;
    let here = format!("{}/orders/7", upstream.url());
    upstream.on("/orders", Answer::status(201).field("Location", &here));
    let gateway = Setup::before(&upstream).listen_everywhere().start().await;
    let keyed = |host: &str| order().field("Host", host).field("Idempotency-Key", "k");
    let first = gateway.send(keyed("one.example")).await.expect(202);
    let path = first.expect_field("location").strip_prefix("http://one.example").unwrap();
    gateway
        .send(get(path).field("Host", "two.example").field("Prefer", "wait=5"))
        .await
        .expect(303);
    let again = gateway.send(keyed("two.example")).await.expect(202);
    for resource in ["", "/status", "/result", "/events", "/tree"] {
        let request = get(format!("{path}{resource}")).field("Host", "two.example");
        let answer = gateway.send(request).await;
        let said = format!("{:?} {}", answer.fields, answer.text());
        assert!(!said.contains("one.example"), "{resource}: {said}");
    }
    let said = format!("{:?} {}", again.fields, again.text());
    assert!(said.contains("two.example") && !said.contains("one.example"), "{said}");
    let received = upstream.only();
    for name in ["operation-progress-url", "host"] {
        assert!(!received.all(name).join(" ").contains("one.example"), "{name}: {received:?}");
    }
}
