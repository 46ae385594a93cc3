//! Redirects: to another place, as a refusal, and as success.

use serde_json::Value;

use crate::support::gateway::order;
use crate::support::{Answer, Gateway, Setup, Upstream};

async fn before(upstream: &Upstream, lines: &str) -> Gateway {
    Setup::before(upstream).route("POST /orders", lines).start().await
}

/// How an order ends that is answered like this, under these lines of its route.
async fn ended(answer: Answer, lines: &str) -> (Upstream, Value) {
    let upstream = Upstream::start().await;
    upstream.on("/orders", answer);
    let gateway = before(&upstream, lines).await;
    let ticket = gateway.post_order().await;
    let document = gateway.settled(&ticket).await;
    (upstream, document)
}

fn to(status: u16, location: &str) -> Answer {
    Answer::status(status).field("Location", location)
}

const AT_LEAST_ONCE: &str = "delivery = \"at-least-once\"";

#[tokio::test]
async fn a_301_created_nothing_and_is_sent_again_only_where_it_may_be_repeated() {
    let (upstream, document) = ended(to(301, "/orders/"), "").await;
    assert_eq!(document["error"]["code"], "upstream-redirect", "{document}");
    assert_eq!(document["createdLocation"], Value::Null);
    upstream.only();
    let (upstream, document) = ended(to(301, "/orders/"), AT_LEAST_ONCE).await;
    assert_eq!((&document["status"], &document["attempts"]), (&"succeeded".into(), &1.into()));
    let received = upstream.received();
    assert_eq!(received.iter().map(|it| &*it.target).collect::<Vec<_>>(), ["/orders", "/orders/"]);
    assert_eq!((&*received[1].method, &received[1].body), ("POST", &received[0].body));
}

#[tokio::test]
async fn a_redirect_to_the_same_path_by_another_scheme_is_a_failure_that_says_what_to_correct() {
    for status in [301, 307, 308] {
        let upstream = Upstream::start().await;
        let secure = upstream.url().replace("http://", "https://");
        upstream.on("/orders", to(status, &format!("{secure}/orders")));
        let gateway = before(&upstream, AT_LEAST_ONCE).await;
        let document = gateway.settled(&gateway.post_order().await).await;
        assert_eq!(document["error"]["code"], "upstream-redirect", "{status}: {document}");
        let message = document["error"]["message"].as_str().unwrap();
        for hint in ["upstreams.*.url", "X-Forwarded-Proto"] {
            assert!(message.contains(hint), "{message}");
        }
        upstream.only();
    }
}

#[tokio::test]
async fn another_path_of_the_same_service_is_asked_at_home_however_it_is_named() {
    for delivery in ["at-most-once", "at-least-once"] {
        for scheme in ["http", "https"] {
            let upstream = Upstream::start().await;
            let named = upstream.url().replace("http", scheme);
            upstream.on("/orders", to(307, &format!("{named}/orders/")));
            let gateway = before(&upstream, &format!("delivery = {delivery:?}")).await;
            let document = gateway.settled(&gateway.post_order().await).await;
            assert_eq!(document["status"], "succeeded", "{scheme}: {document}");
            assert_eq!(upstream.received_at("/orders/").len(), 1);
        }
    }
}

#[tokio::test]
async fn another_path_on_the_public_origin_is_asked_at_home() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", to(308, "https://api.example.com/orders/"));
    let gateway = Setup::before(&upstream)
        .set("server", "public_url = \"https://api.example.com\"")
        .start()
        .await;
    let ticket = gateway.accept(order().field("Host", "api.example.com")).await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(upstream.received_at("/orders/").len(), 1);
}

#[tokio::test]
async fn a_login_page_is_no_success_where_the_route_says_what_is() {
    let login = || to(302, "/login?next=/orders");
    let (_upstream, document) = ended(login(), "").await;
    assert_eq!(document["status"], "succeeded", "unless it is said: {document}");
    let lines = "success = [201, 303]";
    let (upstream, document) = ended(login(), lines).await;
    assert_eq!(document["error"]["code"], "upstream-redirect", "{document}");
    assert_eq!(document["createdLocation"], Value::Null);
    upstream.only();
    let (_upstream, document) = ended(to(303, "/orders/7"), lines).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert!(document["createdLocation"].as_str().unwrap().ends_with("/orders/7"));
    let (_upstream, document) = ended(Answer::status(200), lines).await;
    assert_eq!(document["error"]["code"], "upstream-status", "{document}");
}

#[tokio::test]
async fn a_302_to_tls_created_nothing_though_it_leaves_the_port_out_or_puts_the_path_right() {
    let host = "https://127.0.0.1";
    for status in [302, 303] {
        for location in ["HOME/orders", "HERE/orders/", "HERE/orders?a=1", "HOME/orders/?a=1"] {
            let upstream = Upstream::start().await;
            let here = upstream.url().replace("http://", "https://");
            let location = location.replace("HERE", &here).replace("HOME", host);
            upstream.on("/orders", to(status, &location));
            let gateway = before(&upstream, "").await;
            let document = gateway.settled(&gateway.post_order().await).await;
            let error = &document["error"];
            assert_eq!(error["code"], "upstream-redirect", "{status} {location}: {document}");
            assert_eq!(document["createdLocation"], Value::Null, "{location}");
            upstream.only();
        }
        let (_upstream, document) = ended(to(status, &format!("{host}/orders/7")), "").await;
        assert_eq!(document["status"], "succeeded", "another place: {document}");
    }
}

#[tokio::test]
async fn a_302_to_the_same_place_by_another_scheme_created_nothing() {
    for public_url in [None, Some("https://api.example.com")] {
        for status in [302, 303] {
            let upstream = Upstream::start().await;
            let secure = upstream.url().replace("http://", "https://");
            let mut setup = Setup::before(&upstream).route("POST /orders", "");
            if let Some(url) = public_url {
                setup = setup.set("server", &format!("public_url = {url:?}"));
            }
            let gateway = setup.start().await;
            upstream.on("/orders", to(status, &format!("{secure}/orders")));
            let document = gateway.settled(&gateway.post_order().await).await;
            let error = &document["error"];
            assert_eq!(error["code"], "upstream-redirect", "{status} {public_url:?}: {document}");
            assert!(error["message"].as_str().unwrap().contains("X-Forwarded-Proto"));
            assert_eq!(document["createdLocation"], Value::Null);
            upstream.only();
            // The page that shows what was done, as clients see it.
            let Some(url) = public_url else { continue };
            upstream.on("/orders", to(status, &format!("{url}/orders")));
            let document = gateway.settled(&gateway.post_order().await).await;
            assert_eq!(document["status"], "succeeded", "{status}: {document}");
        }
    }
}
