//! Bad requests to the webhook endpoints: each gets a problem that names its field, and nothing is kept
//! or sent.

use cloakroom_domain::webhooks::DeliveryError;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::scene::open_to;
use crate::support::gateway::{Process, order, path_of};
use crate::support::{Authority, Manner, Receiver, Request, Setup, Upstream, post, time};

const THERE: &str = "https://hooks.example.com/orders";

fn wish() -> Value {
    json!({ "url": THERE, "events": ["operation.failed"] })
}

fn with(member: &str, value: Value) -> Value {
    let mut wish = wish();
    wish[member] = value;
    wish
}

async fn made(process: &Process, wish: &Value) -> String {
    let answer = process.send(post("/-/webhooks").json(wish)).await.expect(201);
    path_of(answer.expect_field("location")).to_owned()
}

#[tokio::test]
async fn what_is_asked_wrongly_is_a_problem_that_names_it() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let first = made(&process, &wish()).await;
    let subscribe = |body: Value| post("/-/webhooks").json(&body);
    let replay = |body: Value| post(format!("{first}/replay")).json(&body);
    let long_ago = "2026-11-21T07:00:00Z";
    let cases: Vec<(Request, u16, &str, Value)> = vec![
        (subscribe(with("url", json!("not a url"))), 400, "field", "url".into()),
        (subscribe(with("url", json!("/orders"))), 400, "field", "url".into()),
        (subscribe(with("url", json!("ftp://hooks.example.com/"))), 400, "field", "url".into()),
        (subscribe(with("url", json!("https://169.254.169.254/"))), 400, "field", "url".into()),
        (subscribe(with("events", json!(["operation.done"]))), 400, "field", "events".into()),
        (subscribe(with("secret", json!("whsec_c2hvcnQ="))), 400, "field", "secret".into()),
        (
            subscribe(with("headers", json!({ "Webhook-Id": "mine" }))),
            400,
            "field",
            "headers".into(),
        ),
        (
            subscribe(with("headers", json!({ "content_type": "a/b" }))),
            400,
            "field",
            "headers".into(),
        ),
        (replay(json!({ "since": long_ago, "until": long_ago })), 400, "field", "until".into()),
        (replay(json!({ "since": "2999-11-22T07:00:00Z" })), 400, "field", "until".into()),
        (post("/-/webhooks").body("application/json", "{\"url\":"), 400, "field", Value::Null),
        (post("/-/webhooks").body("application/json", "[]"), 400, "field", Value::Null),
        (order().field("Callback-Url", THERE), 400, "field", "Callback-Url".into()),
        (
            order().field("Prefer", format!("callback; url=\"{THERE}\"")),
            400,
            "field",
            "Prefer".into(),
        ),
    ];
    let count = cases.len();
    for (request, status, member, value) in cases {
        let problem = process.send(request).await.problem(status);
        assert_eq!(problem[member], value, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|says| says.len() > 10), "{problem}");
    }
    for _ in 1..20 {
        made(&process, &wish()).await;
    }
    let problem = process.send(subscribe(wish())).await.problem(409);
    assert_eq!(
        (&problem["setting"], &problem["limit"]),
        (&"webhooks.max_subscriptions".into(), &json!(20))
    );
    let list = process.get("/-/webhooks?limit=200").await.expect(200).json();
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 20);
    assert_eq!((process.listed().await, upstream.received_at("/orders").len()), (0, 0));
    println!("counts: {} refused, 20 subscriptions, nothing else kept", count + 1);
}

#[tokio::test]
async fn a_gateway_without_a_public_url_says_which_setting_it_lacks() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).route("POST /orders", "callbacks = \"any\"");
    let process = setup.listen_everywhere().spawn().await;
    let problem = process.send(post("/-/webhooks").json(&wish())).await.problem(409);
    assert_eq!(problem["setting"], "server.public_url");
    let problem = process.send(order().field("Callback-Url", THERE)).await.problem(409);
    assert_eq!(problem["setting"], "server.public_url");
    assert_eq!((process.listed().await, upstream.received_at("/orders").len()), (0, 0));
}

/// The port of a server that answers plain HTTP to every connection.
async fn answering_in_plain_text() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    time::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    port
}

#[tokio::test]
async fn whatever_a_receiver_does_wrong_is_recorded_by_a_known_code_and_tried_again() {
    let upstream = Upstream::start().await;
    let (plain, foreign) = (Receiver::start().await, Authority::new().certify("localhost"));
    let untrusted = Receiver::start_tls(&foreign).await;
    plain.on("/resets", Manner::Reset);
    plain.on("/garbage", Manner::Raw(b"\x00\x01 what is this?\r\n\r\n".to_vec()));
    plain.on("/errs", Manner::status(500));
    plain.on("/moved", Manner::status(307).field("Location", "https://elsewhere.example/"));
    let (port, tls_port) = (plain.address.port(), untrusted.address.port());
    let without_tls = answering_in_plain_text().await;
    let open = open_to(&[port, tls_port, without_tls]);
    let process = Setup::before(&upstream).set("webhooks", &open).spawn().await;
    let mut subscriptions = Vec::new();
    for (url, code) in [
        (plain.url("/resets"), "reset"),
        (plain.url("/garbage"), "protocol"),
        (plain.url("/errs"), "status"),
        (plain.url("/moved"), "redirected"),
        (untrusted.url("/"), "certificate-invalid"),
        (format!("https://localhost:{without_tls}/"), "tls-failed"),
    ] {
        let wish = json!({ "url": url, "events": ["operation.succeeded"] });
        subscriptions.push((made(&process, &wish).await, code));
    }
    process.accept(order()).await;
    for (subscription, code) in &subscriptions {
        let probe = || async {
            let list = process.get(&format!("{subscription}/deliveries")).await.expect(200).json();
            let delivery = list["deliveries"][0].clone();
            (!delivery["attempts"][0].is_null()).then_some(delivery)
        };
        let delivery = time::until("a first attempt", probe).await;
        let attempt = &delivery["attempts"][0];
        assert_eq!(attempt["code"], *code, "{delivery}");
        assert!(DeliveryError::named(code).is_some() && attempt["nextAttemptAt"].is_string());
        assert!(matches!(delivery["status"].as_str(), Some("pending" | "sending")), "{delivery}");
    }
    println!("counts: {} ways to fail, each with its code, each tried again", subscriptions.len());
}

/// What a refusal of that URL says to clients in either way, and to operators.
async fn refused(process: &Process, url: &str) -> (Vec<String>, String) {
    let detail = |problem: Value| problem["detail"].as_str().unwrap().to_owned();
    let subscribe = || post("/-/webhooks").json(&with("url", json!(url)));
    let to_clients = vec![
        detail(process.send(subscribe()).await.problem(400)),
        detail(process.send(order().field("Callback-Url", url)).await.problem(400)),
    ];
    (to_clients, detail(process.admin(subscribe()).await.problem(400)))
}

#[tokio::test]
async fn a_refusal_tells_clients_no_address_and_no_setting_and_operators_both() {
    let upstream = Upstream::start().await;
    let process =
        Setup::before(&upstream).route("POST /orders", "callbacks = \"any\"").spawn().await;
    for (url, kind, whole) in [
        ("https://localhost/x", "not public", "is not public: it is loopback"),
        ("https://10.2.3.4/x", "not public", "10.2.3.4 is not public: it is private"),
        ("http://hooks.example.com/x", "https://", "webhooks.allow_http"),
        ("https://hooks.example.com:8443/x", "8443", "webhooks.ports"),
    ] {
        let (to_clients, to_operators) = refused(&process, url).await;
        for told in to_clients {
            assert!(told.contains(kind), "{told}");
            for secret in ["127.0.0.1", "::1", "10.2.3.4", "private", "loopback", "webhooks."] {
                assert!(!told.contains(secret), "{secret}: {told}");
            }
        }
        assert!(to_operators.contains(whole), "{to_operators}");
        let logged = || async { process.stderr().contains(whole).then_some(()) };
        time::until("it is in the log", logged).await;
    }
}

#[tokio::test]
async fn a_receiver_that_cannot_be_asked_is_told_to_clients_without_its_address() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).set("webhooks", &open_to(&[9])).spawn().await;
    let mut wish = with("url", json!("http://localhost:9/x"));
    wish["verification"] = "cloudevents".into();
    let enable = format!("{}/enable", made(&process, &wish).await);
    let told = process.send(post(&*enable)).await.problem(409)["detail"].to_string();
    assert!(told.contains("connect-failed") && !told.contains("127.0.0.1"), "{told}");
}
