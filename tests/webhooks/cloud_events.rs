//! CloudEvents: their form, and the handshake with receivers.

use serde_json::{Value, json};

use super::scene::{Made, Scene};
use crate::support::gateway::path_of;
use crate::support::{Manner, Request, post, time};

fn granting(origin: &str) -> Manner {
    Manner::status(200).field("WebHook-Allowed-Origin", origin)
}

fn asking(scene: &Scene, path: &str) -> Value {
    let mut wish = scene.wish(path);
    wish["verification"] = "cloudevents".into();
    wish["format"] = "cloudevents".into();
    wish
}

fn patch(subscription: &Made, changes: &Value) -> Request {
    Request::new("PATCH", &*subscription.path).json(changes)
}

#[tokio::test]
async fn a_delivery_is_one_structured_event_and_keeps_its_signature() {
    let scene = Scene::set().await;
    let mut wish = scene.wish("/events");
    wish["format"] = "cloudevents".into();
    let subscription = scene.subscribe(&wish).await;
    let plain = scene.subscribe(&scene.wish("/plain")).await;
    let ticket = scene.gateway.post_order().await;
    let arrivals = scene.receiver.until_arrived(2).await;
    let at = |path: &str| arrivals.iter().find(|arrival| arrival.target == path).unwrap();
    let (event, other) = (at("/events"), at("/plain"));
    assert_eq!(event.field("content-type"), "application/cloudevents+json; charset=utf-8");
    assert!(subscription.has_signed(event, &scene.gateway), "{event:?}");
    assert!(plain.has_signed(other, &scene.gateway) && !plain.has_signed(event, &scene.gateway));
    assert_eq!(event.id(), other.id(), "one event, in two forms");
    let (body, same): (Value, Value) = (
        serde_json::from_slice(&event.body).unwrap(),
        serde_json::from_slice(&other.body).unwrap(),
    );
    for (member, value) in [
        ("specversion", json!("1.0")),
        ("id", json!(event.id())),
        ("type", json!("operation.succeeded")),
        ("datacontenttype", json!("application/json")),
        ("time", same["timestamp"].clone()),
        ("data", same["data"].clone()),
    ] {
        assert_eq!(body[member], value, "{body}");
    }
    assert!(body["source"].as_str().unwrap().starts_with("urn:cloakroom:ledger:"), "{body}");
    assert_eq!(body["data"]["id"], *ticket.id);
    assert!(event.fields.iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with("ce-")));
}

#[tokio::test]
async fn a_form_that_is_changed_is_that_of_what_happens_from_then_on() {
    let scene = Scene::set().await;
    scene.receiver.script("/hooks", [Manner::status(500)]);
    let subscription = scene.subscribe(&scene.wish("/hooks")).await;
    scene.gateway.post_order().await;
    scene.receiver.until_arrived(1).await;
    let change = json!({ "format": "cloudevents" });
    scene.gateway.send(patch(&subscription, &change)).await.expect(200);
    let delivery = scene.deliveries(&subscription, "").await.remove(0);
    let path = path_of(delivery["links"]["self"].as_str().unwrap()).to_owned();
    scene.until_delivery(1, &path, |delivery| delivery["status"] == "delivered").await;
    scene.post(&format!("{path}/redeliver"), &json!({})).await.expect(201);
    let arrivals = scene.receiver.until_arrived(3).await;
    for again in &arrivals[1..] {
        assert_eq!((again.id(), &again.body), (arrivals[0].id(), &arrivals[0].body));
        assert_eq!(again.field("content-type"), arrivals[0].field("content-type"));
        assert!(subscription.has_signed(again, &scene.gateway));
    }
    scene.gateway.post_order().await;
    let arrivals = scene.receiver.until_arrived(4).await;
    assert!(arrivals[3].field("content-type").starts_with("application/cloudevents+json"));
}

#[tokio::test]
async fn a_receiver_that_grants_it_is_asked_once_and_then_told() {
    let scene = Scene::set().await;
    scene.receiver.script("/hooks", [granting("localhost")]);
    let mut wish = asking(&scene, "/hooks");
    wish["headers"] = json!({ "X-Api-Key": "hunter2" });
    let subscription = scene.subscribe(&wish).await;
    assert_eq!(subscription.document["status"], "active");
    assert_eq!(subscription.document["verification"], "cloudevents");
    let asked = scene.receiver.only();
    assert_eq!((&*asked.method, asked.field("webhook-request-origin")), ("OPTIONS", "localhost"));
    assert_eq!(asked.field("x-api-key"), "hunter2", "who guards OPTIONS too lets it in");
    assert!(asked.all("webhook-signature").is_empty() && asked.body.is_empty());
    scene.gateway.post_order().await;
    let arrivals = scene.receiver.until_arrived(2).await;
    assert!(subscription.has_signed(&arrivals[1], &scene.gateway));
}

#[tokio::test]
async fn a_receiver_is_sent_to_no_faster_than_it_allowed() {
    let scene = Scene::set().await;
    scene.receiver.script("/hooks", [granting("*").field("WebHook-Allowed-Rate", "60")]);
    let subscription = scene.subscribe(&asking(&scene, "/hooks")).await;
    assert_eq!(subscription.document["allowedRate"], 60, "{}", subscription.document);
    for _ in 0..20 {
        scene.gateway.post_order().await;
    }
    for second in 1..=3 {
        scene.until_delivered(&subscription, second).await;
        assert_eq!(scene.receiver.count(), 1 + second, "one a second, behind what it was asked");
        scene.gateway.advance(1);
    }
    scene.until_delivered(&subscription, 4).await;
    // The receiver at another URL is asked anew, and names no limit.
    scene.receiver.script("/new", [granting("*").field("WebHook-Allowed-Rate", "*")]);
    let changes = json!({ "url": scene.receiver.url("/new") });
    let shown = scene.gateway.send(patch(&subscription, &changes)).await.expect(200).json();
    assert_eq!(shown["allowedRate"], Value::Null);
    scene.gateway.advance(1);
    scene.until_delivered(&subscription, 20).await;
}

#[tokio::test]
async fn what_it_allows_is_kept_from_when_it_agrees() {
    let scene = Scene::set().await;
    scene.receiver.script("/hooks", [Manner::status(405)]);
    let subscription = scene.subscribe(&asking(&scene, "/hooks")).await;
    assert_eq!(subscription.document["allowedRate"], Value::Null);
    scene.receiver.script("/hooks", [granting("*").field("WebHook-Allowed-Rate", "7")]);
    let shown = scene.post(&subscription.at("enable"), &json!({})).await.expect(200).json();
    assert_eq!((&shown["status"], &shown["allowedRate"]), (&json!("active"), &json!(7)));
    for resource in ["disable", "enable"] {
        let shown = scene.post(&subscription.at(resource), &json!({})).await.expect(200).json();
        assert_eq!(shown["allowedRate"], 7, "the receiver was not asked again");
    }
}

#[tokio::test]
async fn whoever_does_not_agree_is_sent_nothing_until_it_does() {
    let scene = Scene::set().await;
    for refusal in [
        Manner::status(204),
        Manner::status(403).field("WebHook-Allowed-Origin", "*"),
        granting("other.example"),
        granting("*").field("WebHook-Allowed-Rate", "never"),
        Manner::status(302).field("Location", "https://elsewhere.example/"),
        Manner::Reset,
    ] {
        let before = scene.receiver.count();
        scene.receiver.on("/hooks", refusal.clone());
        let subscription = scene.subscribe(&asking(&scene, "/hooks")).await;
        assert_eq!(subscription.document["status"], "unverified", "{refusal:?}");
        let problem = scene.post(&subscription.at("enable"), &json!({})).await.problem(409);
        assert!(problem["detail"].is_string(), "{problem}");
        scene.post(&subscription.at("ping"), &json!({})).await.problem(409);
        // What a reused connection loses is asked anew on another one.
        let most = if matches!(refusal, Manner::Reset) { 4 } else { 2 };
        let asked = scene.receiver.count() - before;
        assert!(
            (2..=most).contains(&asked),
            "{refusal:?}: it was asked twice, and told nothing: {asked}"
        );
        scene.gateway.send(Request::new("DELETE", &*subscription.path)).await.expect(204);
    }
}

#[tokio::test]
async fn what_comes_before_it_agrees_is_held_and_can_be_replayed() {
    let scene = Scene::set().await;
    scene.receiver.on("/hooks", Manner::status(405));
    let subscription = scene.subscribe(&asking(&scene, "/hooks")).await;
    scene.gateway.post_order().await;
    let held = || async {
        let held = scene.deliveries(&subscription, "?state=held").await;
        (held.len() == 1).then_some(())
    };
    time::until("one is held", held).await;
    scene.receiver.on("/hooks", granting("*"));
    let shown = scene.post(&subscription.at("enable"), &json!({})).await.expect(200).json();
    assert_eq!(shown["status"], "active");
    scene.gateway.advance(1);
    let range = json!({ "since": "2026-11-21T08:00:00Z", "select": "held" });
    scene.post(&subscription.at("replay"), &range).await.expect(202);
    let delivered = scene.until_delivered(&subscription, 1).await;
    assert_eq!(delivered[0]["cause"], "replay");
}

#[tokio::test]
async fn a_receiver_that_is_away_has_not_agreed() {
    let scene = Scene::set().await;
    let wish = asking(&scene, "/hooks");
    let Scene { upstream: _upstream, receiver, gateway } = scene;
    drop(receiver);
    let answer = gateway.send(post("/-/webhooks").json(&wish)).await.expect(201);
    assert_eq!(answer.json()["status"], "unverified");
    let enable = format!("{}/enable", path_of(answer.expect_field("location")));
    gateway.send(post(enable)).await.problem(409);
}

#[tokio::test]
async fn a_url_that_changes_is_asked_before_anything_is_sent_there() {
    let scene = Scene::set().await;
    scene.receiver.on("/old", granting("*"));
    let subscription = scene.subscribe(&asking(&scene, "/old")).await;
    scene.receiver.on("/new", Manner::status(404));
    let changes = json!({ "url": scene.receiver.url("/new"), "description": "moved" });
    let problem = scene.gateway.send(patch(&subscription, &changes)).await.problem(409);
    assert_eq!(problem["field"], "url", "{problem}");
    let shown = scene.gateway.get(&subscription.path).await.json();
    assert_eq!(shown["url"], scene.receiver.url("/old"), "nothing was changed");
    assert_eq!(shown["description"], Value::Null);
    scene.receiver.on("/new", granting("*"));
    scene.gateway.send(patch(&subscription, &changes)).await.expect(200);
    // A change that keeps the receiver does not ask it again.
    let same = json!({ "url": scene.receiver.url("/new"), "description": "still" });
    scene.gateway.send(patch(&subscription, &same)).await.expect(200);
    scene.gateway.post_order().await;
    scene.until_delivered(&subscription, 1).await;
    let asked: Vec<_> = scene
        .receiver
        .arrivals()
        .iter()
        .map(|arrival| format!("{} {}", arrival.method, arrival.target))
        .collect();
    assert_eq!(asked, ["OPTIONS /old", "OPTIONS /new", "OPTIONS /new", "POST /new"]);
}
