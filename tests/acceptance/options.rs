//! Options of a request: tags, delays, serial keys, parents, references.

use serde_json::{Value, json};

use crate::support::gateway::{operations_of, order};
use crate::support::{Gateway, Setup, Upstream, get, post, time};

#[tokio::test]
async fn tags_and_the_client_reference_are_echoed_in_the_document_and_not_sent_on() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let request = order()
        .field("Operation-Tags", "account:121, instance:532")
        .field("Client-Reference", "case 4711");
    let ticket = gateway.accept(request).await;
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["tags"], json!(["account:121", "instance:532"]));
    assert_eq!(document["clientReference"], "case 4711");
    assert_eq!(upstream.only().field("operation-tags"), None);
    assert_eq!(upstream.only().field("client-reference"), None);
}

#[tokio::test]
async fn a_client_reference_over_256_characters_is_400_and_stores_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let with = |length: usize| order().field("Client-Reference", "r".repeat(length));
    gateway.send(with(257)).await.problem(400);
    assert_eq!(gateway.listed().await, 0);
    gateway.send(with(256)).await.expect(202);
}

#[tokio::test]
async fn a_delayed_operation_is_queued_until_its_time_has_come() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let later = gateway.accept(order().field("Operation-Delay", "30")).await;
    gateway.advance(29);
    // Had the first one been due, it would have gone before this one.
    let now = gateway.accept(post("/at-once")).await;
    gateway.settled(&now).await;
    assert_eq!(gateway.document(&later).await["status"], "queued");
    assert!(upstream.received_at("/orders").is_empty());
    gateway.advance(1);
    assert_eq!(gateway.settled(&later).await["status"], "succeeded");
}

#[tokio::test]
async fn not_before_takes_a_date() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    // The clock stands at 08:00:00.
    let date = "Sat, 21 Nov 2026 08:01:00 GMT";
    let later = gateway.accept(order().field("Operation-Not-Before", date)).await;
    gateway.advance(59);
    let now = gateway.accept(post("/at-once")).await;
    gateway.settled(&now).await;
    assert_eq!(gateway.document(&later).await["status"], "queued");
    gateway.advance(1);
    assert_eq!(gateway.settled(&later).await["status"], "succeeded");
}

#[tokio::test]
async fn malformed_options_are_400_and_store_nothing() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for (name, value) in [
        ("Operation-Delay", "-1"),
        ("Operation-Delay", "soon"),
        ("Operation-Not-Before", "yesterday"),
        ("Operation-Timeout", "-1"),
        ("Operation-Timeout", "0"),
        ("Operation-Timeout", "x"),
        ("Operation-Deadline", "-1"),
        ("Operation-Deadline", "1.5.2"),
        ("Operation-Parent", "nobody"),
    ] {
        let problem = gateway.send(order().field(name, value)).await.problem(400);
        assert!(problem.to_string().contains(name), "{name}: {value}: {problem}");
    }
    assert_eq!(gateway.listed().await, 0);
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn operations_of_one_serial_key_run_one_at_a_time_in_the_order_accepted() {
    let upstream = Upstream::start().await;
    upstream.hold("/serial/1");
    let gateway = Gateway::before(&upstream).await;
    let keyed = |path: &str| post(path).field("Operation-Serial-Key", "customer-7");
    let first = gateway.accept(keyed("/serial/1")).await;
    upstream.until_received("/serial/1", 1).await;
    let second = gateway.accept(keyed("/serial/2")).await;
    let third = gateway.accept(keyed("/serial/3")).await;
    let other = post("/other").field("Operation-Serial-Key", "customer-8");
    let other = gateway.accept(other).await;
    gateway.settled(&other).await;
    for ticket in [&second, &third] {
        let document = gateway.document(ticket).await;
        assert_eq!(document["status"], "waiting");
        assert_eq!(document["waitingFor"], "serial-key");
    }
    upstream.release("/serial/1");
    for ticket in [&first, &second, &third] {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
    let targets: Vec<_> = upstream.received().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/serial/1", "/other", "/serial/2", "/serial/3"]);
}

#[tokio::test]
async fn a_route_can_derive_the_serial_key_from_a_field() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let gateway = Setup::before(&upstream)
        .route("POST /orders", "serial_key = \"header:Customer-Id\"")
        .start()
        .await;
    let of = |customer: &str| order().field("Customer-Id", customer);
    gateway.accept(of("7")).await;
    let second = gateway.accept(of("7")).await;
    gateway.accept(of("8")).await;
    upstream.until_received("/orders", 2).await;
    assert_eq!(gateway.document(&second).await["waitingFor"], "serial-key");
    upstream.release("/orders");
    assert_eq!(gateway.settled(&second).await["status"], "succeeded");
}

#[tokio::test]
async fn a_canceled_operation_lets_the_next_of_its_serial_key_go() {
    let upstream = Upstream::start().await;
    upstream.hold("/first");
    let gateway = Gateway::before(&upstream).await;
    let keyed = |path: &str| post(path).field("Operation-Serial-Key", "k");
    let first = gateway.accept(keyed("/first")).await;
    let second = gateway.accept(keyed("/second")).await;
    upstream.until_received("/first", 1).await;
    assert_eq!(gateway.document(&second).await["status"], "waiting");
    gateway.send(post(first.at("cancel"))).await.expect(202);
    assert_eq!(gateway.settled(&second).await["status"], "succeeded");
}

#[tokio::test]
async fn a_delayed_operation_leaves_its_serial_key_to_others_until_its_time() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let keyed = |path: &str| post(path).field("Operation-Serial-Key", "k");
    let delayed = gateway.accept(keyed("/delayed").field("Operation-Delay", "3600")).await;
    for path in ["/first", "/second"] {
        let other = gateway.accept(keyed(path)).await;
        assert_eq!(gateway.settled(&other).await["status"], "succeeded");
    }
    let document = gateway.document(&delayed).await;
    assert_eq!((&document["status"], &document["waitingFor"]), (&"queued".into(), &Value::Null));
    assert!(document["nextAttemptAt"].is_string(), "{document}");
    gateway.advance(3600);
    assert_eq!(gateway.settled(&delayed).await["status"], "succeeded");
    let targets: Vec<_> = upstream.received().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/first", "/second", "/delayed"]);
}

#[tokio::test]
async fn a_child_names_its_parent_and_the_tree_shows_both() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let parent = gateway.post_order().await;
    let child = gateway.accept(order().field("Operation-Parent", &*parent.id)).await;
    let grandchild = gateway.accept(order().field("Operation-Parent", &*child.id)).await;
    assert_eq!(gateway.document(&child).await["parent"], &*parent.id);
    let tree = gateway.get(&parent.at("tree")).await.expect(200).text();
    for ticket in [&child, &grandchild] {
        assert!(tree.contains(&ticket.id), "{tree}");
    }
    let below = gateway.get(&child.at("tree")).await.expect(200).json();
    assert!(below.to_string().contains(&grandchild.id));
}

#[tokio::test]
async fn a_parent_of_another_principal_is_ignored() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .principal("header:X-User")
        .set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    let ann = gateway.accept(order().field("X-User", "ann")).await;
    let request = order().field("X-User", "bob").field("Operation-Parent", &*ann.id);
    let bob = gateway.accept(request).await;
    let status = get(bob.at("status")).field("X-User", "bob");
    let document = gateway.send(status).await.expect(200).json();
    assert_eq!(document["parent"], serde_json::Value::Null);
    let tree = gateway.send(get(ann.at("tree")).field("X-User", "ann")).await.expect(200);
    assert!(!tree.text().contains(&bob.id));
}

#[tokio::test]
async fn a_route_can_add_tags_of_its_own() {
    let upstream = Upstream::start().await;
    let gateway =
        Setup::before(&upstream).route("POST /orders", "tags = [\"kind:order\"]").start().await;
    let ticket = gateway.accept(order().field("Operation-Tags", "account:1")).await;
    let tags = gateway.document(&ticket).await["tags"].clone();
    for tag in ["kind:order", "account:1"] {
        assert!(tags.as_array().unwrap().contains(&json!(tag)), "{tags}");
    }
}

#[tokio::test]
async fn operations_without_a_key_are_each_their_own() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for _ in 0..3 {
        gateway.post_order().await;
    }
    upstream.until_received("/orders", 3).await;
    let listed = time::until("the list", || async {
        let list = gateway.get("/-/operations").await.expect(200).json();
        Some(operations_of(&list)).filter(|operations| operations.len() == 3)
    });
    listed.await;
}

#[tokio::test]
async fn a_route_can_delay_its_operations() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .route("POST /orders", "delay = \"30s\"")
        .route("POST /at-once", "")
        .start()
        .await;
    let later = gateway.post_order().await;
    gateway.advance(29);
    let now = gateway.accept(post("/at-once")).await;
    gateway.settled(&now).await;
    assert_eq!(gateway.document(&later).await["status"], "queued");
    gateway.advance(1);
    assert_eq!(gateway.settled(&later).await["status"], "succeeded");
}

#[tokio::test]
async fn a_route_can_derive_the_serial_key_from_its_path_the_query_or_the_body() {
    for (rule, same) in [
        ("path:customer", ["/of/7", "/of/7"]),
        ("query:customer", ["/of/1?customer=7", "/of/2?customer=7&x=1"]),
        ("pointer:/customer", ["/of/1", "/of/2"]),
    ] {
        let upstream = Upstream::start().await;
        upstream.on("/of/1", crate::support::Answer::Never);
        upstream.on("/of/7", crate::support::Answer::Never);
        let lines = format!("serial_key = {rule:?}");
        let gateway = Setup::before(&upstream).route("POST /of/{customer}", &lines).start().await;
        let body = json!({"customer": 7});
        gateway.accept(post(same[0]).json(&body)).await;
        let second = gateway.accept(post(same[1]).json(&body)).await;
        let document = gateway.document(&second).await;
        assert_eq!(document["waitingFor"], "serial-key", "{rule}: {document}");
    }
}

#[tokio::test]
async fn a_route_can_derive_the_client_reference_and_the_parent() {
    let upstream = Upstream::start().await;
    let lines = "client_reference = \"pointer:/number\"\nparent = \"header:Caused-By\"";
    let gateway = Setup::before(&upstream).route("POST /orders", lines).start().await;
    let (one, two) = (gateway.post_order().await, gateway.post_order().await);
    let long = "7".repeat(257);
    let derived = |number: serde_json::Value, parent: &str| {
        post("/orders").json(&json!({ "number": number })).field("Caused-By", parent)
    };
    let own = derived(json!(4711), &one.id)
        .field("Client-Reference", "mine")
        .field("Operation-Parent", &*two.id);
    for (request, reference, parent) in [
        (derived(json!(4711), &one.id), json!("4711"), json!(one.id)),
        // What the client says itself goes before.
        (own, json!("mine"), json!(two.id)),
        // What could not be sent as one is none.
        (derived(json!(long), "nobody"), json!(null), json!(null)),
    ] {
        let ticket = gateway.accept(request).await;
        let document = gateway.document(&ticket).await;
        assert_eq!((&document["clientReference"], &document["parent"]), (&reference, &parent));
    }
}

#[tokio::test]
async fn a_paused_queue_accepts_and_carries_nothing_out() {
    let upstream = Upstream::start().await;
    let setup = |paused: bool| {
        Setup::before(&upstream)
            .set("queues.slow", &format!("paused = {paused}"))
            .route("POST /orders", "queue = \"slow\"")
            .route("POST /at-once", "")
    };
    let gateway = setup(true).start().await;
    let paused = gateway.post_order().await;
    let other = gateway.accept(post("/at-once")).await;
    gateway.settled(&other).await;
    assert_eq!(gateway.document(&paused).await["status"], "queued");
    let gateway = gateway.restart_with(setup(false)).await;
    assert_eq!(gateway.settled(&paused).await["status"], "succeeded");
}
