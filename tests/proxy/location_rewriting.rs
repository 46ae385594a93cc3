//! URLs that an upstream names in proxied answers.

use crate::support::gateway::{order, path_of};
use crate::support::{Answer, Gateway, Setup, Upstream, get};

/// What the upstream sends, with `UP` for its host and port, and what a client reads of it.
async fn passed(
    gateway: &Gateway,
    upstream: &Upstream,
    fields: &[(&str, &str)],
    name: &str,
) -> Vec<String> {
    let up = upstream.address.to_string();
    let answer = fields.iter().fold(Answer::status(302), |answer, (name, value)| {
        answer.field(name, &value.replace("UP", &up))
    });
    upstream.on("/moved", answer);
    let answer = gateway.send(get("/moved").field("Host", "here.example:8443")).await.expect(302);
    let said = format!("{:?}", answer.fields);
    assert!(!said.contains(&up), "{fields:?}: {said}");
    answer.all(name).into_iter().map(str::to_owned).collect()
}

async fn behind_tls(upstream: &Upstream) -> Gateway {
    let public = "public_url = \"https://api.example.com/base\"";
    Setup::before(upstream).set("server", public).start().await
}

#[tokio::test]
async fn an_upstream_cannot_say_what_the_gateway_alone_says_of_a_request() {
    let upstream = Upstream::start().await;
    let said = ["Idempotency-Replayed", "Operation-Id", "Upstream-Status", "X-Progress"];
    let answer = said.iter().fold(Answer::status(200), |answer, name| answer.field(name, "7"));
    upstream.on("/orders", answer);
    let gateway = Setup::before(&upstream).route("POST /orders", "").start().await;
    let passed = gateway.get("/orders").await.expect(200);
    assert_eq!((passed.field(said[0]), passed.field(said[1])), (None, None));
    let recorded = gateway.send(order().field("Expect", "200-ok")).await.expect(200);
    for name in said {
        assert_ne!(recorded.field(&name.to_lowercase()), Some("7"), "{name}");
    }
}

#[tokio::test]
async fn the_upstreams_host_and_port_are_put_on_the_public_origin_whatever_the_scheme() {
    let upstream = Upstream::start().await;
    let gateway = behind_tls(&upstream).await;
    for name in ["Location", "Content-Location", "Operation-Location", "Azure-AsyncOperation"] {
        for place in ["https://UP/things/", "http://UP/things/", "//UP/things/"] {
            let shown = passed(&gateway, &upstream, &[(name, place)], name).await;
            assert_eq!(shown, ["https://api.example.com/base/things/"], "{name}: {place}");
        }
    }
}

#[tokio::test]
async fn the_public_origin_is_the_gateways_own_whoever_wrote_it() {
    let upstream = Upstream::start().await;
    let gateway = behind_tls(&upstream).await;
    for place in [
        "https://api.example.com/things/7",
        "http://api.example.com/things/7",
        "https://api.example.com/base/things/7",
    ] {
        let shown = passed(&gateway, &upstream, &[("Location", place)], "location").await;
        assert_eq!(shown, ["https://api.example.com/base/things/7"], "{place}");
    }
    let gateway = Setup::before(&upstream).listen_everywhere().start().await;
    let place = [("Location", "http://here.example:8443/things/7")];
    let shown = passed(&gateway, &upstream, &place, "location").await;
    assert_eq!(shown, ["http://here.example:8443/things/7"]);
}

#[tokio::test]
async fn a_second_line_shows_no_internal_address_and_one_is_left() {
    let upstream = Upstream::start().await;
    let gateway = behind_tls(&upstream).await;
    for name in ["Location", "Content-Location"] {
        for lines in [["http://UP/a", "http://UP/b"], ["https://x.example/", "http://UP/a"]] {
            let shown = passed(&gateway, &upstream, &lines.map(|line| (name, line)), name).await;
            assert_eq!(shown, ["https://api.example.com/base/a"], "{lines:?}");
        }
    }
}

#[tokio::test]
async fn links_and_a_refresh_that_name_the_upstream_are_put_on_the_public_origin() {
    let upstream = Upstream::start().await;
    let gateway = behind_tls(&upstream).await;
    let fields = [
        ("Link", "<http://UP/things?page=2>; rel=\"next\", </style.css>; rel=preload"),
        ("Link", "<https://x.example/>; anchor=\"https://UP/a\""),
        ("Refresh", "3; url=http://UP/b"),
    ];
    let base = "https://api.example.com/base";
    let shown = passed(&gateway, &upstream, &fields, "link").await;
    let first = format!("<{base}/things?page=2>; rel=\"next\", </style.css>; rel=preload");
    assert_eq!(shown, [first, format!("<https://x.example/>; anchor=\"{base}/a\"")]);
    let shown = passed(&gateway, &upstream, &fields, "refresh").await;
    assert_eq!(shown, [format!("3; url={base}/b")]);
}

#[tokio::test]
async fn octets_of_latin_1_are_percent_encoded() {
    let upstream = Upstream::start().await;
    let raw = b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9?a=\xfc\r\nContent-Length: 0\r\n\r\n";
    upstream.on("/moved", Answer::Raw(raw.to_vec()));
    let gateway = Gateway::before(&upstream).await;
    let answer = gateway.get("/moved").await.expect(302);
    let place = format!("{}/caf%E9?a=%FC", gateway.origin());
    assert_eq!(answer.all("location"), [&*place]);
}

#[tokio::test]
async fn the_monitor_of_a_gateway_behind_is_reached_where_its_prefix_is_another() {
    let upstream = Upstream::start().await;
    let inner = Setup::before(&upstream).set("server", "prefix = \"/-jobs\"").start().await;
    // Straight through, and on a synchronous route.
    for route in ["POST /other", "POST /orders"] {
        let outer =
            Setup::before_url(&inner.origin()).route(route, "mode = \"sync\"").start().await;
        let accepted = outer.send(order()).await.expect(202);
        let monitor = accepted.expect_field("location");
        assert!(monitor.starts_with(&format!("{}/-jobs/", outer.origin())), "{route}: {monitor}");
        let shown = outer.get(path_of(monitor)).await;
        assert!([202, 303].contains(&shown.status), "{route}: {shown:?}");
        assert_eq!(shown.field("gateway-origin"), Some("upstream"), "{route}");
    }
}
