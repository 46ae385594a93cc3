//! Callbacks of one request: what a route takes, and what is refused before anything is
//! stored.

use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::gateway::{next_page, order};
use crate::support::{Gateway, Manner, Setup, Ticket, Upstream, post, time};

const THERE: &str = "https://hooks.example.com/orders/7";

async fn with(callbacks: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let lines = format!("callbacks = {callbacks}");
    let gateway = Setup::before(&upstream).route("POST /orders", &lines).start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn they_are_off_unless_the_route_says_otherwise() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    for request in [
        order().field("Callback-Url", THERE),
        order().field("Prefer", format!("respond-async, callback; url=\"{THERE}\"")),
    ] {
        let problem = gateway.send(request).await.problem(400);
        assert_eq!(problem["type"], "urn:cloakroom:problem:callbacks-off");
    }
    assert_eq!(gateway.listed().await, 0);
}

#[tokio::test]
async fn a_callback_that_the_route_takes_is_accepted_and_its_fields_go_no_further() {
    let (upstream, gateway) = with("[\"https://*.example.com/orders/*\"]").await;
    let request = order()
        .field("Callback-Url", THERE)
        .field("Callback-Events", "operation.succeeded, operation.started");
    let ticket = gateway.accept(request).await;
    gateway.settled(&ticket).await;
    let received = &upstream.received_at("/orders")[0];
    assert_eq!((received.field("callback-url"), received.field("callback-events")), (None, None));
    let keys = gateway.get("/-/webhooks/callback-key").await.expect(200).json();
    let kinds: Vec<_> =
        keys["keys"].as_array().unwrap().iter().map(|key| &key["signature"]).collect();
    assert_eq!(kinds, ["v1a", "v1"], "made with the first callback");
}

#[tokio::test]
async fn a_request_that_is_refused_leaves_nothing_of_its_callback() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set("queues.default", "max_depth = 1");
    let gateway = setup.route("POST /orders", "callbacks = \"any\"").start().await;
    let waits = || order().field("Operation-Delay", "60");
    gateway.accept(waits().field("Idempotency-Key", "\"k\"")).await;
    let calls_back = || waits().field("Callback-Url", "https://93.184.215.14/hooks");
    let refused = [calls_back().field("Idempotency-Key", "\"k\""), calls_back()];
    for (request, status) in refused.into_iter().zip([422, 503]) {
        gateway.send(request).await.problem(status);
    }
    let keys = gateway.get("/-/webhooks/callback-key").await.expect(200).json();
    assert_eq!(keys["keys"], json!([]), "no callback was made yet");
}

#[tokio::test]
async fn a_preferred_callback_is_told_in_preference_applied() {
    let (_upstream, gateway) = with("\"any\"").await;
    let preferred = format!("respond-async, callback; url=\"{THERE}\"");
    let answer = gateway.send(order().field("Prefer", &*preferred)).await.expect(202);
    assert_eq!(answer.expect_field("preference-applied"), "respond-async, callback");
    let both = order().field("Prefer", &*preferred).field("Callback-Url", "https://a.example/x");
    let answer = gateway.send(both).await.expect(202);
    assert_eq!(answer.expect_field("preference-applied"), "respond-async");
    let unreadable = order().field("Prefer", "respond-async, callback");
    let answer = gateway.send(unreadable).await.expect(202);
    assert_eq!(answer.expect_field("preference-applied"), "respond-async");
}

#[tokio::test]
async fn what_cannot_be_called_back_is_refused_by_the_name_of_the_field() {
    let (upstream, gateway) = with("[\"https://*.example.com/orders/*\"]").await;
    for (name, value, field) in [
        ("Callback-Url", "nonsense", "Callback-Url"),
        ("Callback-Url", "", "Callback-Url"),
        ("Callback-Url", "http://hooks.example.com/orders/7", "Callback-Url"),
        ("Callback-Url", "https://user@hooks.example.com/orders/7", "Callback-Url"),
        ("Callback-Url", "http://user:word@hooks.example.com/orders/7", "Callback-Url"),
        ("Callback-Url", "https://hooks.example.com:8443/orders/7", "Callback-Url"),
        ("Callback-Url", "https://hooks.example.org/orders/7", "Callback-Url"),
        ("Callback-Url", "https://hooks.example.com/elsewhere", "Callback-Url"),
        ("Callback-Url", "https://hooks.example.com/orders/..%2felsewhere", "Callback-Url"),
        ("Callback-Url", "https://169.254.169.254/orders/7", "Callback-Url"),
        ("Prefer", "callback; url=\"https://hooks.example.org/orders/7\"", "Prefer"),
        ("Callback-Events", "operation.failed", "Callback-Events"),
    ] {
        let problem = gateway.send(order().field(name, value)).await.problem(400);
        assert_eq!(problem["field"], field, "{value}: {problem}");
        assert!(!problem["detail"].to_string().contains("subscription"), "{value}: {problem}");
    }
    for events in ["", "operation.exploded", "webhook.disabled", "operation.failed webhook.ping"] {
        let request = order().field("Callback-Url", THERE).field("Callback-Events", events);
        assert_eq!(gateway.send(request).await.problem(400)["field"], "Callback-Events");
    }
    let twice = order().field("Callback-Url", THERE).field("Callback-Url", THERE);
    gateway.send(twice).await.problem(400);
    assert_eq!((gateway.listed().await, upstream.received_at("/orders").len()), (0, 0));
}

#[tokio::test]
async fn a_callback_is_part_of_what_makes_a_request_the_same() {
    let (_upstream, gateway) = with("\"any\"").await;
    let keyed = |url: &str| order().field("Idempotency-Key", "k").field("Callback-Url", url);
    let first = gateway.accept(keyed(THERE)).await;
    assert_eq!(gateway.accept(keyed(THERE)).await, first);
    assert_eq!(gateway.accept(keyed("https://HOOKS.example.com:443/orders/7")).await, first);
    gateway.send(keyed("https://hooks.example.com/orders/8")).await.problem(422);
    gateway.send(order().field("Idempotency-Key", "k")).await.problem(422);
    let other = keyed(THERE).field("Callback-Events", "operation.started");
    gateway.send(other).await.problem(422);
}

#[tokio::test]
async fn without_a_lasting_public_url_the_setting_is_named() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).route("POST /orders", "callbacks = \"any\"");
    let gateway = setup.listen_everywhere().start().await;
    let problem = gateway.send(order().field("Callback-Url", THERE)).await.problem(409);
    assert_eq!(
        (&problem["setting"], &problem["field"]),
        (&"server.public_url".into(), &"Callback-Url".into())
    );
    gateway.send(order()).await.expect(202);
}

#[tokio::test]
async fn where_nothing_is_routed_the_fields_are_removed_and_ask_for_nothing() {
    let (upstream, gateway) = with("\"any\"").await;
    gateway.send(post("/alarms").field("Callback-Url", THERE)).await.expect(201);
    assert_eq!(upstream.received_at("/alarms")[0].field("callback-url"), None);
}

/// What became of telling the callback of an operation, once something has.
async fn told(scene: &Scene, ticket: &Ticket, status: &str) -> Vec<Value> {
    let probe = || async {
        let list = scene.gateway.get(&ticket.at("deliveries")).await.expect(200).json();
        let all = list["deliveries"].as_array().unwrap().clone();
        let so = |delivery: &Value| delivery["status"] == status;
        (!all.is_empty() && all.iter().all(so)).then_some(all)
    };
    time::until("deliveries of a callback", probe).await
}

async fn calling_back() -> Scene {
    Scene::set_with(|setup| setup.route("POST /orders", "callbacks = \"any\"")).await
}

#[tokio::test]
async fn whoever_has_the_ticket_sees_what_became_of_its_callback() {
    let scene = calling_back().await;
    let url = scene.receiver.url("/called");
    scene.subscribe(&scene.wish("/subscribed")).await;
    let request = order()
        .field("Callback-Url", &*url)
        .field("Callback-Events", "operation.accepted, operation.started, operation.succeeded");
    let ticket = scene.gateway.accept(request).await;
    scene.receiver.until_arrived(4).await;
    let all = told(&scene, &ticket, "delivered").await;
    let events: Vec<_> = all.iter().map(|delivery| delivery["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["operation.succeeded", "operation.started", "operation.accepted"]);
    for delivery in &all {
        assert_eq!((&delivery["url"], &delivery["operation"]), (&json!(url), &json!(ticket.id)));
        assert_eq!(
            (&delivery["attempts"][0]["status"], delivery.get("links")),
            (&json!(204), None)
        );
    }
    let mut seen = Vec::new();
    let mut page = Some(ticket.at("deliveries?limit=2"));
    while let Some(target) = page {
        let list = scene.gateway.get(&target).await.expect(200).json();
        seen.extend(list["deliveries"].as_array().unwrap().clone());
        page = next_page(&list);
    }
    assert_eq!(seen, all);
    let operators = format!("/-/operations/{}/deliveries?limit=2", ticket.id);
    let list = scene.gateway.admin(crate::support::get(operators)).await.expect(200).json();
    let next = next_page(&list).unwrap();
    let list = scene.gateway.admin(crate::support::get(next)).await.expect(200).json();
    assert_eq!(list["deliveries"].as_array().unwrap().len(), 1);
    let other = scene.gateway.accept(order()).await;
    scene.gateway.settled(&other).await;
    let none = scene.gateway.get(&other.at("deliveries")).await.expect(200).json();
    assert_eq!(none, json!({ "deliveries": [], "links": { "next": null } }));
    scene.gateway.get(&ticket.at("deliveries?state=odd")).await.problem(400);
    scene.gateway.get(&format!("/-/operations/{}/deliveries", ticket.id)).await.problem(404);
}

#[tokio::test]
async fn a_callback_that_fails_shows_each_attempt_and_is_made_again() {
    let scene = calling_back().await;
    scene.receiver.script("/called", [Manner::status(500)]);
    let url = scene.receiver.url("/called");
    let ticket = scene.gateway.accept(order().field("Callback-Url", url)).await;
    let failed = || async {
        let list = scene.gateway.get(&ticket.at("deliveries")).await.expect(200).json();
        let attempt = list["deliveries"][0]["attempts"][0].clone();
        (!attempt.is_null()).then_some(attempt)
    };
    assert_eq!(time::until("a first attempt", failed).await["code"], "status");
    scene.gateway.advance(10);
    let delivered = told(&scene, &ticket, "delivered").await;
    assert_eq!(delivered[0]["attempts"].as_array().unwrap().len(), 2);
    let arrivals = scene.receiver.arrivals();
    assert_eq!((arrivals[0].id(), &arrivals[0].body), (arrivals[1].id(), &arrivals[1].body));
}

#[tokio::test]
async fn a_retry_by_hand_calls_back_too() {
    let scene = calling_back().await;
    scene.upstream.script("/orders", [crate::support::Answer::status(400)]);
    let request = order()
        .field("Callback-Url", scene.receiver.url("/called"))
        .field("Callback-Events", "operation.succeeded, operation.failed");
    let ticket = scene.gateway.accept(request).await;
    let first = scene.receiver.until_arrived(1).await.remove(0);
    let retry = post(ticket.at("retry")).json(&json!({}));
    let successor = Ticket::of(&scene.gateway.admin(retry).await.expect(202));
    let second = scene.receiver.until_arrived(2).await.remove(1);
    assert_ne!(first.id(), second.id());
    let body: Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(body["type"], "operation.succeeded");
    assert_eq!(
        (&body["data"]["id"], &body["data"]["retryOf"]),
        (&json!(successor.id), &json!(ticket.id))
    );
    assert_eq!(second.target, "/called");
}

#[tokio::test]
async fn each_message_names_the_keys_that_have_signed_it() {
    let scene = calling_back().await;
    let made = scene.subscribe(&scene.wish("/subscribed")).await;
    let callback_key = post("/-/webhooks/callback-key").json(&json!({}));
    let callbacks = scene.gateway.send(callback_key).await.expect(201).json();
    let rotated = scene.post(&made.at("rotate"), &json!({})).await.expect(200).json();
    let request = order().field("Callback-Url", scene.receiver.url("/called"));
    scene.gateway.accept(request).await;
    let arrivals = scene.receiver.until_arrived(2).await;
    let named = |path: &str| {
        let arrival = arrivals.iter().find(|arrival| arrival.target == path).unwrap();
        assert_eq!(arrival.all("webhook-key-id").len(), 1);
        let signatures = arrival.field("webhook-signature").split(' ').count();
        let names: Vec<_> =
            arrival.field("webhook-key-id").split(' ').map(|name| json!(name)).collect();
        assert_eq!(names.len(), signatures, "{names:?}");
        names
    };
    let ids = |keys: &Value| -> Vec<_> {
        keys["keys"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect()
    };
    assert_eq!(named("/subscribed"), ids(&rotated));
    assert_eq!(named("/called"), ids(&callbacks));
    let first = &made.document["keys"][0]["id"];
    assert_eq!(named("/subscribed").last(), Some(first), "the current one comes first");
    let public = scene.gateway.get("/-/webhooks/keys").await.expect(200).json();
    assert!(named("/called").contains(&public["keys"][0]["kid"]));
}
