//! The fields of an upstream request, and those that never get there.

use crate::support::gateway::order;
use crate::support::upstream::Received;
use crate::support::{Answer, Gateway, Request, Setup, Upstream, get};

/// What the upstream saw of an accepted request and of a proxied one with these fields.
async fn seen(setup: Setup, upstream: &Upstream, fields: &[(&str, &str)]) -> [Received; 2] {
    let gateway = setup.start().await;
    let with = |request: Request| {
        fields.iter().fold(request, |request, (name, value)| request.field(name, *value))
    };
    let ticket = gateway.accept(with(order())).await;
    gateway.settled(&ticket).await;
    gateway.send(with(get("/catalogue"))).await.expect(200);
    let mut received = upstream.received();
    assert_eq!(received.len(), 2);
    let proxied = received.pop().unwrap();
    [received.pop().unwrap(), proxied]
}

#[tokio::test]
async fn end_to_end_fields_arrive_as_they_were_sent() {
    let upstream = Upstream::start().await;
    let fields = [
        ("X-Own", "one"),
        ("X-Own", "two"),
        ("Accept-Language", "de, en;q=0.5"),
        ("User-Agent", "a client/1.0"),
        ("Authorization", "Basic abc"),
        ("Cookie", "a=b; c=d"),
    ];
    for received in seen(Setup::before(&upstream), &upstream, &fields).await {
        assert_eq!(received.all("x-own"), ["one", "two"]);
        assert_eq!(received.all("accept-language"), ["de, en;q=0.5"]);
        assert_eq!(received.all("user-agent"), ["a client/1.0"]);
        assert_eq!(received.all("authorization"), ["Basic abc"]);
        assert_eq!(received.all("cookie"), ["a=b; c=d"]);
    }
}

#[tokio::test]
async fn an_operation_carries_its_id_its_attempt_and_where_to_report_progress() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let ticket = gateway.post_order().await;
    gateway.settled(&ticket).await;
    let received = upstream.only();
    assert_eq!(received.all("operation-id"), [&*ticket.id]);
    assert_eq!(received.all("operation-attempt"), ["1"]);
    let progress = received.expect_field("operation-progress-url");
    assert!(progress.starts_with(&format!("{}/-/operations/", gateway.origin())), "{progress}");
    assert!(progress.contains("/progress/"), "{progress}");
    assert_eq!(received.all("accept-encoding"), ["identity"]);
    let traceparent = received.expect_field("traceparent");
    assert_eq!(traceparent.split('-').map(str::len).collect::<Vec<_>>(), [2, 32, 16, 2]);
    assert!(received.expect_field("via").contains("1.1"));
    assert!(received.expect_field("cdn-loop").starts_with("cloakroom;"));
}

#[tokio::test]
async fn a_trace_that_came_in_goes_on() {
    let upstream = Upstream::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let [accepted, _] = seen(Setup::before(&upstream), &upstream, &[("traceparent", trace)]).await;
    let carried = accepted.expect_field("traceparent");
    assert_eq!(carried.split('-').nth(1), Some("0af7651916cd43dd8448eb211c80319c"), "{carried}");
}

#[tokio::test]
async fn what_the_gateway_reads_or_sets_is_removed_from_what_clients_send() {
    let upstream = Upstream::start().await;
    let fields = [
        ("Operation-Id", "forged"),
        ("Operation-Attempt", "forged"),
        ("Operation-Progress-Url", "http://forged.example/"),
        ("Operation-Made-Up", "forged"),
        ("Operation_Id", "forged"),
        ("operation_attempt", "forged"),
        ("Operation-Tags", "forged"),
        ("Client-Reference", "forged"),
        ("Client_Reference", "forged"),
        ("Callback_Url", "forged"),
    ];
    let own = ["operation-id", "operation-attempt", "operation-progress-url"];
    for received in seen(Setup::before(&upstream), &upstream, &fields).await {
        for (name, value) in &received.fields {
            assert!(!value.contains("forged"), "{name}: {value}");
            let alias = name.to_lowercase().replace('_', "-");
            let gateways = alias.starts_with("operation-") || alias.starts_with("callback-");
            assert!(!gateways || own.contains(&&*name.to_lowercase()), "{name}");
        }
    }
}

#[tokio::test]
async fn hop_by_hop_fields_and_those_that_connection_names_are_dropped() {
    let upstream = Upstream::start().await;
    let fields = [
        ("Connection", "X-Hop, keep-alive"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic abc"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
    ];
    for received in seen(Setup::before(&upstream), &upstream, &fields).await {
        for (name, _) in &fields[1..] {
            assert_eq!(received.field(name), None, "{name}: {received:?}");
        }
        assert!(!received.all("connection").join(",").to_lowercase().contains("x-hop"));
    }
}

#[tokio::test]
async fn a_connection_field_that_names_what_must_stay_is_400() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for name in [
        "Host",
        "Authorization",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-FORWARDED-HOST",
    ] {
        for request in [order(), get("/catalogue")] {
            gateway.send(request.field("Connection", name)).await.problem(400);
        }
    }
    assert!(upstream.received().is_empty());
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn forwarding_fields_of_just_anybody_are_not_believed() {
    let upstream = Upstream::start().await;
    let fields = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=203.0.113.9;host=evil.example"),
        ("X_Forwarded_For", "203.0.113.9"),
    ];
    for received in seen(Setup::before(&upstream), &upstream, &fields).await {
        for (name, value) in &received.fields {
            let forged = value.contains("203.0.113.9") || value.contains("evil.example");
            assert!(!forged, "{name}: {value}");
        }
        assert_eq!(received.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(received.all("x-forwarded-proto"), ["http"]);
        let host = received.expect_field("x-forwarded-host");
        assert!(host.starts_with("127.0.0.1:") && host != upstream.address.to_string(), "{host}");
        assert!(received.expect_field("forwarded").contains("for=127.0.0.1"));
    }
}

#[tokio::test]
async fn forwarding_fields_of_a_trusted_peer_are_kept_and_added_to() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set("server", "trusted_proxies = [\"127.0.0.0/8\"]");
    let fields = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")];
    for received in seen(setup, &upstream, &fields).await {
        let chain = received.all("x-forwarded-for").join(", ");
        assert!(chain.starts_with("203.0.113.9") && chain.ends_with("127.0.0.1"), "{chain}");
        assert_eq!(received.all("x-forwarded-proto"), ["https"]);
    }
}

#[tokio::test]
async fn range_and_conditions_are_dropped_from_a_get_that_is_an_operation() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).route("GET /reports/{id}", "").start().await;
    let request = get("/reports/7")
        .field("Range", "bytes=0-1")
        .field("If-None-Match", "\"x\"")
        .field("If-Modified-Since", "Sat, 21 Nov 2026 08:00:00 GMT")
        .field("If-Range", "\"x\"")
        .field("Accept-Encoding", "gzip");
    let ticket = gateway.accept(request.clone()).await;
    gateway.settled(&ticket).await;
    let received = upstream.only();
    for name in ["range", "if-none-match", "if-modified-since", "if-range"] {
        assert_eq!(received.field(name), None, "{name}");
    }
    assert_eq!(received.all("accept-encoding"), ["identity"]);
}

#[tokio::test]
async fn an_upstream_can_be_given_fields_of_its_own() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set(
        "upstreams.default.headers",
        "Authorization = \"Bearer of-the-gateway\"\nX-Zone = \"b\"",
    );
    let fields = [("Authorization", "Bearer of-the-client"), ("X-Zone", "a")];
    for received in seen(setup, &upstream, &fields).await {
        assert_eq!(received.all("authorization"), ["Bearer of-the-gateway"]);
        assert_eq!(received.all("x-zone"), ["b"]);
    }
}

#[tokio::test]
async fn a_gateway_origin_from_the_upstream_is_removed() {
    let upstream = Upstream::start().await;
    upstream.on("/catalogue", Answer::status(200).field("Gateway-Origin", "cloakroom"));
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.get("/catalogue").await.expect(200);
    assert_eq!(answer.all("gateway-origin"), ["upstream"]);
}

#[tokio::test]
async fn the_principals_field_is_removed_from_what_anybody_else_sends() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .principal("header:X-User")
        .set("server", "trusted_proxies = [\"192.0.2.0/24\"]")
        .start()
        .await;
    gateway.send(order().field("X-User", "ann")).await.problem(401);
    let request = get("/catalogue").field("X-User", "ann").field("X_User", "ann");
    gateway.send(request).await.expect(200);
    let received = upstream.only();
    assert_eq!(received.field("x-user"), None);
    assert_eq!(received.field("x_user"), None);
}

#[tokio::test]
async fn no_alias_of_what_the_gateway_reads_or_sets_passes() {
    let upstream = Upstream::start().await;
    let fields = [
        ("Idempotency_Key", "forged"),
        ("Operation_Expect", "forged"),
        ("Operation-Id_", "forged"),
        ("X-Forwarded_Host", "forged"),
        ("X_Forwarded_Proto", "forged"),
        ("CDN_Loop", "forged"),
        ("Gateway-Origin", "forged"),
        ("Gateway_Origin", "forged"),
        ("Upstream_Status", "forged"),
    ];
    for received in seen(Setup::before(&upstream), &upstream, &fields).await {
        for (name, value) in &received.fields {
            assert!(!value.contains("forged"), "{name}: {value}");
        }
    }
}

#[tokio::test]
async fn a_preference_that_the_gateway_meets_is_not_the_upstreams_to_meet() {
    for (prefers, applied, left) in [
        ("respond-async", "respond-async", &[][..]),
        ("Respond-Async, return=minimal", "respond-async, return=minimal", &["return=minimal"]),
        ("respond-async, handling=lenient, wait=0", "respond-async, wait=0", &["handling=lenient"]),
        ("return=representation", "", &["return=representation"]),
        ("respond-async=no, wait=soon", "", &["respond-async=no, wait=soon"]),
    ] {
        let upstream = Upstream::start().await;
        let gateway = Gateway::before(&upstream).await;
        let answer = gateway.send(order().field("Prefer", prefers)).await.expect(202);
        assert_eq!(answer.all("preference-applied").join(", "), applied, "{prefers}");
        let received = upstream.until_received("/orders", 1).await;
        assert_eq!(received[0].all("prefer"), left, "{prefers}");
    }
}

#[tokio::test]
async fn a_preference_that_the_gateway_does_not_meet_goes_on() {
    let upstream = Upstream::start().await;
    let lines = "mode = \"sync\"\nallow = [\"sync\"]";
    let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
    let answer = gateway.send(order().field("Prefer", "respond-async")).await.expect(201);
    assert_eq!(answer.field("preference-applied"), None);
    gateway.send(get("/catalogue").field("Prefer", "respond-async, wait=3")).await.expect(200);
    let received = upstream.received();
    assert_eq!(received[0].all("prefer"), ["respond-async"]);
    assert_eq!(received[1].all("prefer"), ["respond-async, wait=3"], "where nothing is routed");
}
