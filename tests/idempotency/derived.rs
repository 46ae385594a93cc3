//! Keys that a route derives from the request.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::gateway::order;
use crate::support::time::spawn;
use crate::support::{Answer, Connection, Gateway, Request, Setup, Ticket, Upstream, get, post};

async fn deriving(upstream: &Upstream, lines: &str) -> Gateway {
    Setup::before(upstream).route("POST /orders", lines).start().await
}

fn of(body: &serde_json::Value) -> Request {
    post("/orders").json(body)
}

#[tokio::test]
async fn from_a_field() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"header:X-Order\"").await;
    let with = |order_number: &str| order().field("X-Order", order_number);
    let one = gateway.accept(with("1")).await;
    assert_eq!(gateway.accept(with("1")).await, one);
    assert_ne!(gateway.accept(with("2")).await, one);
}

#[tokio::test]
async fn from_a_place_in_the_body() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"pointer:/order/number\"").await;
    let body = |number: u32| of(&json!({"order": {"number": number}, "sku": "A-1"}));
    let one = gateway.accept(body(1)).await;
    assert_eq!(gateway.accept(body(1)).await, one);
    assert_ne!(gateway.accept(body(2)).await, one);
    let other = of(&json!({"order": {"number": 1}, "sku": "B-2"}));
    gateway.send(other).await.problem(422);
}

#[tokio::test]
async fn from_the_request_as_a_whole() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"fingerprint\"").await;
    let one = gateway.accept(of(&json!({"sku": "A-1"}))).await;
    assert_eq!(gateway.accept(of(&json!({"sku": "A-1"}))).await, one);
    assert_ne!(gateway.accept(of(&json!({"sku": "B-2"}))).await, one);
}

#[tokio::test]
async fn with_unique_pending_only_an_unfinished_one_counts() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let lines = "idempotency_key = \"fingerprint\"\nunique = \"pending\"";
    let gateway = deriving(&upstream, lines).await;
    let one = gateway.accept(order()).await;
    assert_eq!(gateway.accept(order()).await, one);
    upstream.release("/orders");
    gateway.settled(&one).await;
    let two = gateway.accept(order()).await;
    assert_ne!(two, one);
    gateway.settled(&two).await;
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn without_unique_pending_a_finished_one_counts_too() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"fingerprint\"").await;
    let one = gateway.accept(order()).await;
    gateway.settled(&one).await;
    assert_eq!(gateway.accept(order()).await, one);
    upstream.only();
}

#[tokio::test]
async fn where_there_is_nothing_to_derive_it_from_each_request_is_its_own() {
    for rule in ["header:X-Order", "pointer:/number"] {
        let upstream = Upstream::start().await;
        let gateway = deriving(&upstream, &format!("idempotency_key = {rule:?}")).await;
        assert_ne!(gateway.accept(order()).await, gateway.accept(order()).await, "{rule}");
    }
}

#[tokio::test]
async fn where_there_is_nothing_to_derive_a_required_one_from_it_is_400() {
    for (rule, with) in [
        ("header:X-Order", order().field("X-Order", "7")),
        ("pointer:/number", of(&json!({"number": 7}))),
    ] {
        let upstream = Upstream::start().await;
        let lines = format!("idempotency_key = {rule:?}\nidempotency_required = true");
        let gateway = deriving(&upstream, &lines).await;
        let problem = gateway.send(order()).await.problem(400);
        let place = rule.split_once(':').unwrap().1.to_ascii_lowercase();
        let detail = problem["detail"].as_str().unwrap().to_ascii_lowercase();
        assert!(detail.contains(&place), "{problem}");
        assert_eq!(gateway.listed().await, 0, "{rule}");
        gateway.send(with).await.expect(202);
    }
}

#[tokio::test]
async fn a_key_of_the_clients_own_goes_before_the_derived_one() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"fingerprint\"").await;
    let keyed = |key: &str| order().field("Idempotency-Key", key);
    let one = gateway.accept(keyed("1")).await;
    assert_ne!(gateway.accept(keyed("2")).await, one);
    assert_eq!(gateway.accept(keyed("1")).await, one);
}

#[tokio::test]
async fn a_derived_key_counts_within_its_principal() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .principal("authorization")
        .route("POST /orders", "idempotency_key = \"fingerprint\"\nunique = \"pending\"")
        .start()
        .await;
    let of = |who: &str| order().field("Authorization", who).field("Operation-Delay", "60");
    let ann = gateway.accept(of("Bearer ann")).await;
    assert_ne!(gateway.accept(of("Bearer bob")).await, ann);
    assert_eq!(gateway.accept(of("Bearer ann")).await, ann);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_with_unique_pending_make_one_operation() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let lines = "idempotency_key = \"fingerprint\"\nunique = \"pending\"";
    let gateway = deriving(&upstream, lines).await;
    let public = gateway.public;
    let answers: Vec<_> =
        (0..20).map(|_| spawn(async move { order().send(public).await })).collect();
    let mut ids = BTreeSet::new();
    for answer in answers {
        ids.insert(Ticket::of(&answer.await.unwrap().expect(202)).id);
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(gateway.listed().await, 1);
}

#[tokio::test]
async fn with_unique_pending_one_that_was_canceled_or_failed_counts_no_more() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(400));
    let lines = "idempotency_key = \"fingerprint\"\nunique = \"pending\"";
    let gateway = deriving(&upstream, lines).await;
    let failed = gateway.accept(order()).await;
    gateway.settled(&failed).await;
    let delayed = gateway.accept(order().field("Operation-Delay", "60")).await;
    assert_ne!(delayed, failed);
    gateway.send(post(delayed.at("cancel"))).await.expect(200);
    assert_ne!(gateway.accept(order()).await, delayed);
}

#[tokio::test]
async fn values_from_a_body_are_told_apart_as_they_were_written() {
    let upstream = Upstream::start().await;
    let lines = "idempotency_key = \"pointer:/number\"\nclient_reference = \"pointer:/number\"";
    let gateway = deriving(&upstream, lines).await;
    let with =
        |number: &str| post("/orders").body("application/json", format!("{{\"number\":{number}}}"));
    let mut tickets = Vec::new();
    for number in
        ["12345678901234567890", "12345678901234567891", "2024.1", "2024.10", "1e400", "7.0"]
    {
        let ticket = gateway.accept(with(number)).await;
        assert_eq!(gateway.accept(with(number)).await, ticket, "{number}");
        assert_eq!(gateway.document(&ticket).await["clientReference"], number);
        assert!(!tickets.contains(&ticket), "{number}");
        tickets.push(ticket);
    }
    // A string is what it stands for.
    let one = gateway.accept(with("\"a\\u002fb\"")).await;
    gateway.send(with("\"a/b\"")).await.problem(422);
    assert_eq!(gateway.document(&one).await["clientReference"], "a/b");
    // Of two members with one name the last counts.
    let last = post("/orders").body("application/json", "{\"number\":8,\"number\":\"last\"}");
    let ticket = gateway.accept(last).await;
    assert_eq!(gateway.document(&ticket).await["clientReference"], "last");
}

#[tokio::test]
async fn values_of_fields_and_queries_are_told_apart_octet_by_octet() {
    let upstream = Upstream::start().await;
    let gateway = deriving(&upstream, "idempotency_key = \"header:X-Order\"").await;
    let mut tickets = Vec::new();
    for octet in [b'\xe8', b'\xe9', b'\xff'] {
        let mut connection = Connection::open(gateway.public).await;
        let head = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Order: ";
        connection.send_raw([head, &[octet][..], b"\r\n\r\n"].concat()).await;
        let ticket = Ticket::of(&connection.response().await.expect(202));
        assert!(!tickets.contains(&ticket));
        tickets.push(ticket);
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_read_is_counted_by_route() {
    let upstream = Upstream::start().await;
    let lines = "name = \"unreadably\"\nidempotency_key = \"pointer:/number\"\nserial_key = \"pointer:/who\"";
    let gateway = deriving(&upstream, lines).await;
    let readable = [of(&json!({"number": 1, "who": "ann"})), of(&json!({})), post("/orders")];
    for request in readable {
        gateway.accept(request).await;
    }
    let counted = || async {
        let metrics = gateway.admin(get("/metrics")).await.expect(200).text();
        let of_route = |line: &&str| {
            line.starts_with("cloakroom_unreadable_places_total") && line.contains("unreadably")
        };
        metrics.lines().filter(of_route).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(counted().await.is_empty(), "{:?}", counted().await);
    for body in ["number=1", "{\"number\":[1]}", "{\"number\":1"] {
        gateway.accept(post("/orders").body("application/json", body)).await;
    }
    let told = counted().await.join("\n");
    assert!(told.contains("place=\"idempotency_key\"} 3"), "{told}");
    assert!(told.contains("place=\"serial_key\"} 2"), "{told}");
}

#[tokio::test]
async fn a_body_in_which_a_required_key_cannot_be_found_is_400_that_says_why() {
    let upstream = Upstream::start().await;
    let lines = "idempotency_key = \"pointer:/k\"\nidempotency_required = true";
    let gateway = deriving(&upstream, lines).await;
    for (body, says) in [
        ("{\"k\":\"7", "the body is not JSON from octet 7 on"),
        ("{\"k\":1,}", "the body is not JSON from octet 7 on"),
        ("k=1", "the body is not JSON from octet 0 on"),
        ("{\"k\":[1]}", "the value is an array or an object"),
        ("{\"k\":\"\"}", "there is no value"),
        ("{\"other\":1}", "there is no value"),
    ] {
        let request = post("/orders").body("application/json", body);
        let problem = gateway.send(request).await.problem(400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says) && detail.contains("\"/k\""), "{body}: {detail}");
    }
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn a_value_that_can_be_no_reference_or_parent_is_counted_by_route() {
    let upstream = Upstream::start().await;
    let lines =
        "name = \"dropping\"\nclient_reference = \"pointer:/ref\"\nparent = \"pointer:/of\"";
    let gateway = deriving(&upstream, lines).await;
    let whole = gateway.accept(of(&json!({"ref": "r".repeat(256)}))).await;
    assert_eq!(gateway.document(&whole).await["clientReference"], "r".repeat(256));
    let counted = async || {
        let metrics = gateway.admin(get("/metrics")).await.expect(200).text();
        let lines = metrics.lines().filter(|line| line.contains("unreadable_places_total{"));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    assert!(!counted().await.contains("dropping"), "{}", counted().await);
    for body in [
        json!({"ref": "r".repeat(257)}),
        json!({"ref": "Größe"}),
        json!({"ref": "a\nb"}),
        json!({"of": "no id"}),
    ] {
        let ticket = gateway.accept(of(&body)).await;
        assert!(gateway.document(&ticket).await["clientReference"].is_null(), "{body}");
    }
    let told = counted().await;
    let count = |place: &str, count: u32| {
        let line = format!("route=\"dropping\",place=\"{place}\"}} {count}");
        assert!(told.contains(&line), "{line} in {told}");
    };
    count("client_reference", 3);
    count("parent", 1);
}
