//! `Forwarded` and its relatives: the fields that the gateway believes.

use crate::support::gateway::order;
use crate::support::upstream::Received;
use crate::support::{Connection, Gateway, Request, Setup, Upstream, get};

const PUBLIC: &str = "public_url = \"https://api.example.com\"";
const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

/// What the upstream sees of an accepted request and of a proxied one with these fields.
async fn seen(gateway: &Gateway, upstream: &Upstream, fields: &[(&str, &str)]) -> [Received; 2] {
    let with = |request: Request| {
        fields.iter().fold(request, |request, (name, value)| request.field(name, *value))
    };
    let ticket = gateway.accept(with(order())).await;
    gateway.settled(&ticket).await;
    let accepted = upstream.received().pop().unwrap();
    gateway.send(with(get("/catalogue"))).await.expect(200);
    [accepted, upstream.received().pop().unwrap()]
}

/// Whether any field says this.
fn says(received: &Received, text: &str) -> bool {
    received.fields.iter().any(|(_, value)| value.contains(text))
}

#[tokio::test]
async fn an_octet_that_is_no_text_hides_nothing_that_a_trusted_proxy_says() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).set("server", TRUSTING).start().await;
    for claimed in ["é, 203.0.113.9", "\u{fffd},203.0.113.9", "\", 203.0.113.9"] {
        let fields =
            [("X-Forwarded-For", claimed), ("Forwarded", "for=198.51.100.1;host=evil.example")];
        for received in seen(&gateway, &upstream, &fields).await {
            assert_eq!(received.all("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"], "{claimed}");
            assert!(!says(&received, "evil.example"), "{claimed}: {received:?}");
        }
    }
    let joined = "host=evil.example;for=\", for=203.0.113.9;host=good.example;proto=https";
    for received in seen(&gateway, &upstream, &[("Forwarded", joined)]).await {
        assert_eq!(received.all("x-forwarded-host"), ["good.example"]);
        assert!(!says(&received, "evil.example"), "{received:?}");
    }
}

#[tokio::test]
async fn nothing_beside_its_mark_keeps_a_gateway_from_seeing_that_a_request_came_back() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    gateway.send(get("/catalogue")).await.expect(200);
    let mark = upstream.only().expect_field("cdn-loop").to_owned();
    for joined in [format!("é, {mark}"), format!("\", {mark}"), format!("x; a=\"b, {mark}, é")] {
        gateway.send(get("/catalogue").field("CDN-Loop", &*joined)).await.problem(508);
        gateway.send(order().field("CDN-Loop", &*joined)).await.problem(508);
    }
    let mut connection = Connection::open(gateway.public).await;
    let head =
        [b"GET /catalogue HTTP/1.1\r\nHost: x\r\nCDN-Loop: \xe9, ", mark.as_bytes(), b"\r\n\r\n"];
    connection.send_raw(head.concat()).await;
    connection.response().await.problem(508);
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn no_alias_passes_beside_a_field_that_an_upstream_is_given() {
    let upstream = Upstream::start().await;
    let own = "X-Internal-Auth = \"of-the-gateway\"\nX-Zone-Id = \"b\"";
    let gateway = Setup::before(&upstream).set("upstreams.default.headers", own).start().await;
    let fields = [
        ("X_Internal_Auth", "forged"),
        ("X-Internal_Auth", "forged"),
        ("X.Internal.Auth", "forged"),
        ("x-internal-auth", "forged"),
        ("X_Zone_Id", "forged"),
        ("X_Internal", "kept"),
    ];
    for received in seen(&gateway, &upstream, &fields).await {
        assert!(!says(&received, "forged"), "{received:?}");
        assert_eq!(received.all("x-internal-auth"), ["of-the-gateway"]);
        assert_eq!(received.all("x_internal"), ["kept"]);
    }
}

#[tokio::test]
async fn with_a_public_url_upstreams_are_told_that_and_not_what_a_client_says() {
    let upstream = Upstream::start().await;
    for keeps in [false, true] {
        let gateway = Setup::before(&upstream)
            .set("server", PUBLIC)
            .set("upstreams.default", &format!("preserve_host = {keeps}"))
            .start()
            .await;
        for received in seen(&gateway, &upstream, &[("Host", "evil.example:1")]).await {
            assert_eq!(received.all("x-forwarded-host"), ["api.example.com"]);
            assert_eq!(received.all("x-forwarded-proto"), ["https"]);
            assert!(
                received.expect_field("forwarded").contains("host=api.example.com;proto=https")
            );
            assert!(!says(&received, "evil.example"), "{received:?}");
            let host = received.expect_field("host");
            assert_eq!(host == "api.example.com", keeps, "{host}");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_before_the_public_url() {
    let upstream = Upstream::start().await;
    let gateway =
        Setup::before(&upstream).set("server", PUBLIC).set("server", TRUSTING).start().await;
    let fields = [("X-Forwarded-Host", "tenant.example.com"), ("X-Forwarded-Proto", "http")];
    for received in seen(&gateway, &upstream, &fields).await {
        assert_eq!(received.all("x-forwarded-host"), ["tenant.example.com"]);
        assert_eq!(received.all("x-forwarded-proto"), ["http"]);
    }
    for received in seen(&gateway, &upstream, &[("Host", "evil.example")]).await {
        assert_eq!(received.all("x-forwarded-host"), ["api.example.com"]);
        assert_eq!(received.all("x-forwarded-proto"), ["https"]);
    }
}

#[tokio::test]
async fn without_a_public_url_a_clients_host_goes_no_further_than_its_own_answer() {
    let upstream = Upstream::start().await;
    for keeps in [false, true] {
        let setup =
            Setup::before(&upstream).set("upstreams.default", &format!("preserve_host = {keeps}"));
        for gateway in [setup.clone().start().await, setup.listen_everywhere().start().await] {
            let [mut accepted, proxied] =
                seen(&gateway, &upstream, &[("Host", "client.example")]).await;
            // Who sets `preserve_host` wants the client's, whenever it is sent.
            accepted.fields.retain(|(name, _)| !(keeps && name.eq_ignore_ascii_case("host")));
            assert!(!says(&accepted, "client.example"), "{accepted:?}");
            assert_eq!(proxied.all("x-forwarded-host"), ["client.example"]);
            assert_eq!(proxied.expect_field("host") == "client.example", keeps);
        }
    }
}
