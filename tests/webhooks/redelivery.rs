//! Attempts of past deliveries, and redelivery: test events, one delivery, a range.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Made, Scene};
use crate::support::gateway::path_of;
use crate::support::{Arrival, Manner, Ticket, get, post};

/// Carries that many orders out, and waits until each of them has been told.
async fn told_of(scene: &Scene, subscription: &Made, orders: usize) {
    let before = scene.deliveries(subscription, "?state=delivered").await.len();
    for _ in 0..orders {
        scene.gateway.post_order().await;
    }
    scene.until_delivered(subscription, before + orders).await;
}

/// Replays what this asks for, and gives the result of the operation that it is.
async fn replayed(scene: &Scene, subscription: &Made, range: &Value) -> Value {
    let answer = scene.post(&subscription.at("replay"), range).await.expect(202);
    let ticket = Ticket::of(&answer);
    let end = scene.gateway.until_finished(&ticket).await;
    assert_eq!(path_of(end.expect_field("location")), ticket.at("result"));
    let document = scene.gateway.document(&ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    scene.gateway.get(&ticket.at("result")).await.expect(200).json()
}

/// How often each message has arrived.
fn times(arrivals: &[Arrival]) -> HashMap<&str, usize> {
    let mut times = HashMap::new();
    for arrival in arrivals {
        *times.entry(arrival.id()).or_default() += 1;
    }
    times
}

#[tokio::test]
async fn a_replay_sends_its_range_once_more_as_the_same_messages_and_nothing_twice() {
    let scene = Scene::set().await;
    let subscription = scene.subscribe(&scene.wish("/hooks")).await;
    let since = scene.gateway.clock.now().rfc3339();
    told_of(&scene, &subscription, 5).await;
    scene.gateway.advance(1);
    let until = scene.gateway.clock.now().rfc3339();
    told_of(&scene, &subscription, 2).await;
    scene.gateway.advance(1);
    let range = json!({ "since": since, "until": until, "select": "delivered" });
    assert_eq!(replayed(&scene, &subscription, &range).await, json!({ "replayed": 5 }));
    let arrivals = scene.receiver.until_arrived(12).await;
    let (first, again) = arrivals.split_at(7);
    for arrival in again {
        let before = first.iter().find(|before| before.id() == arrival.id()).unwrap();
        assert_eq!(arrival.body, before.body, "the same octets");
        assert!(subscription.has_signed(arrival, &scene.gateway), "{arrival:?}");
    }
    let mut counts: Vec<_> = times(&arrivals).into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 2, 2, 2, 2, 2], "two were made after the range");
    // What has been replayed counts by its latest delivery, which is not of that range.
    assert_eq!(replayed(&scene, &subscription, &range).await, json!({ "replayed": 0 }));
    let causes = scene.deliveries(&subscription, "?limit=100").await;
    let replays = causes.iter().filter(|delivery| delivery["cause"] == "replay").count();
    println!("counts: 7 messages, 5 in the range, {replays} replayed, 0 the second time");
    assert_eq!((causes.len(), replays, scene.receiver.count()), (12, 5, 12));
}

#[tokio::test]
async fn a_replay_of_what_failed_brings_it_once_the_receiver_is_well_again() {
    let scene = Scene::set().await;
    scene.receiver.on("/hooks", Manner::status(410));
    let subscription = scene.subscribe(&scene.wish("/hooks")).await;
    let since = scene.gateway.clock.now().rfc3339();
    scene.gateway.post_order().await;
    let gone = |document: &Value| document["disabledFor"] == "gone";
    scene.until_shown(&subscription.path, gone).await;
    // What comes while it is disabled is held.
    let ticket = scene.gateway.post_order().await;
    scene.gateway.settled(&ticket).await;
    let held = || async {
        let held = scene.deliveries(&subscription, "?state=held").await;
        (held.len() == 1).then_some(())
    };
    crate::support::time::until("one is held", held).await;
    scene.receiver.on("/hooks", Manner::status(204));
    scene.post(&subscription.at("enable"), &json!({})).await.expect(200);
    scene.gateway.advance(1);
    let until = scene.gateway.clock.now().rfc3339();
    for (select, count) in [("failed", 1), ("held", 1), ("all", 0)] {
        let range = match select {
            // Only what is old: both have gone out since.
            "all" => json!({ "since": since, "until": until, "select": select }),
            _ => json!({ "since": since, "select": select }),
        };
        assert_eq!(replayed(&scene, &subscription, &range).await["replayed"], count, "{select}");
    }
    let delivered = scene.until_delivered(&subscription, 2).await;
    assert!(delivered.iter().all(|delivery| delivery["cause"] == "replay"), "{delivered:?}");
}

#[tokio::test]
async fn one_delivery_goes_out_once_more_as_a_delivery_of_its_own() {
    let scene = Scene::set().await;
    let subscription = scene.subscribe(&scene.wish("/hooks")).await;
    told_of(&scene, &subscription, 1).await;
    let first = scene.deliveries(&subscription, "").await.remove(0);
    let path = path_of(first["links"]["self"].as_str().unwrap()).to_owned();
    let answer = scene.post(&format!("{path}/redeliver"), &json!({})).await.expect(201);
    let made = answer.json();
    assert_eq!((&made["cause"], &made["message"]), (&json!("replay"), &first["message"]));
    assert_ne!(made["number"], first["number"]);
    let arrivals = scene.receiver.until_arrived(2).await;
    assert_eq!((arrivals[0].id(), &arrivals[0].body), (arrivals[1].id(), &arrivals[1].body));
    let there = path_of(answer.expect_field("location")).to_owned();
    scene.until_shown(&there, |delivery| delivery["status"] == "delivered").await;
    let unknown = subscription.at("deliveries/999999/redeliver");
    scene.post(&unknown, &json!({})).await.problem(404);
}

#[tokio::test]
async fn what_waits_for_another_attempt_has_it_at_once_when_that_is_asked_for() {
    let scene = Scene::set().await;
    scene.receiver.on("/hooks", Manner::status(500));
    let subscription = scene.subscribe(&scene.wish("/hooks")).await;
    let since = scene.gateway.clock.now().rfc3339();
    for arrived in 1..=3 {
        scene.gateway.post_order().await;
        scene.receiver.until_arrived(arrived).await;
    }
    let tried = |delivery: &Value| delivery["status"] == "pending";
    for delivery in scene.deliveries(&subscription, "").await {
        scene.until_shown(path_of(delivery["links"]["self"].as_str().unwrap()), tried).await;
    }
    scene.receiver.on("/hooks", Manner::status(204));
    let first = scene.deliveries(&subscription, "").await.remove(2);
    let path = path_of(first["links"]["self"].as_str().unwrap()).to_owned();
    let going = scene.post(&format!("{path}/redeliver"), &json!({})).await.expect(200).json();
    assert_eq!(going["number"], first["number"], "as the delivery that it is");
    let shown = scene.until_shown(&path, |delivery| delivery["status"] == "delivered").await;
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2, "{shown}");
    scene.gateway.advance(1);
    let range = json!({ "since": since, "select": "pending" });
    assert_eq!(replayed(&scene, &subscription, &range).await, json!({ "replayed": 2 }));
    scene.until_delivered(&subscription, 3).await;
    let arrivals = scene.receiver.arrivals();
    assert_eq!(times(&arrivals).into_values().collect::<Vec<_>>(), [2, 2, 2]);
}

#[tokio::test]
async fn what_is_being_sent_is_not_sent_once_more() {
    let scene = Scene::set().await;
    scene.receiver.on("/hooks", Manner::Silent);
    let subscription = scene.subscribe(&scene.wish("/hooks")).await;
    scene.gateway.post_order().await;
    scene.receiver.until_arrived(1).await;
    let number = scene.deliveries(&subscription, "").await[0]["number"].clone();
    let path = subscription.at(&format!("deliveries/{}", number.as_str().unwrap()));
    scene.post(&format!("{path}/redeliver"), &json!({})).await.problem(409);
    assert_eq!(scene.receiver.count(), 1);
}

#[tokio::test]
async fn every_attempt_is_shown_with_what_became_of_it() {
    let scene = Scene::set().await;
    let subscription = scene.subscribe(&scene.wish("/hooks")).await;
    scene.receiver.script(
        "/hooks",
        [
            Manner::status(500).body("no"),
            Manner::Reset,
            Manner::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
            Manner::status(302).field("Location", "https://elsewhere.example/"),
            Manner::status(503).field("Retry-After", "7200"),
        ],
    );
    scene.gateway.post_order().await;
    scene.receiver.until_arrived(1).await;
    let number = scene.deliveries(&subscription, "").await[0]["number"].clone();
    let path = subscription.at(&format!("deliveries/{}", number.as_str().unwrap()));
    let end = scene.until_delivery(900, &path, |shown| shown["status"] == "delivered").await;
    let attempts = end["attempts"].as_array().unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt["status"].as_u64(), attempt["code"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some(500), Some("status")),
            (None, Some("reset")),
            (None, Some("protocol")),
            (Some(302), Some("redirected")),
            (Some(503), Some("status")),
            (Some(204), None),
        ]
    );
    let instant = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    for (number, pair) in attempts.windows(2).enumerate() {
        assert_eq!(pair[0]["number"], number + 1);
        assert!(pair[0]["durationMs"].is_u64(), "{}", pair[0]);
        let (due, next) = (instant(&pair[0]["nextAttemptAt"]), instant(&pair[1]["at"]));
        assert!(instant(&pair[0]["at"]) < due && due <= next, "{pair:?}");
    }
    let patience = instant(&attempts[4]["nextAttemptAt"]) - instant(&attempts[4]["at"]);
    let hours = Duration::try_from(jiff::SignedDuration::try_from(patience).unwrap()).unwrap();
    assert!(hours >= Duration::from_hours(2), "Retry-After is heard: {hours:?}");
    assert_eq!((&attempts[5]["nextAttemptAt"], &end["attemptsBegun"]), (&Value::Null, &json!(6)));
    let ids: std::collections::HashSet<_> =
        scene.receiver.arrivals().iter().map(|arrival| arrival.id().to_owned()).collect();
    assert_eq!((scene.receiver.count(), ids.len()), (6, 1), "the same message each time");
}

#[tokio::test]
async fn a_test_event_goes_to_one_subscription_and_to_nobody_else() {
    let scene = Scene::set().await;
    let subscription = scene.subscribe(&scene.wish("/mine")).await;
    let mut wish = scene.wish("/other");
    wish["events"] = json!(["operation.succeeded", "webhook.disabled"]);
    scene.subscribe(&wish).await;
    // An empty body of that type sets nothing, as `{}` does.
    let empty = post(subscription.at("ping")).body("application/json", "");
    let answer = scene.gateway.send(empty).await.expect(202);
    let there = path_of(answer.expect_field("location")).to_owned();
    let end = scene.until_shown(&there, |shown| shown["status"] == "delivered").await;
    assert_eq!((&end["event"], &end["cause"]), (&json!("webhook.ping"), &json!("ping")));
    let arrival = scene.receiver.only();
    assert!(subscription.has_signed(&arrival, &scene.gateway), "{arrival:?}");
    assert_eq!(arrival.target, "/mine");
    let body: Value = serde_json::from_slice(&arrival.body).unwrap();
    assert_eq!(body["type"], "webhook.ping");
    assert_eq!(body["data"]["subscription"]["id"], subscription.document["id"]);
    // It is no event that anybody is told of, nor replayed.
    scene.gateway.advance(1);
    let range = json!({ "since": "2026-11-21T08:00:00Z", "select": "all" });
    assert_eq!(replayed(&scene, &subscription, &range).await, json!({ "replayed": 0 }));
    assert_eq!(scene.receiver.count(), 1);
    scene.gateway.send(get(there)).await.expect(200);
}
