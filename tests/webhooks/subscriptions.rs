//! `/-/webhooks`: create, list, change, disable, delete, and every refusal.

use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::gateway::path_of;
use crate::support::{Gateway, Manner, Request, Setup, Upstream, get, post};

const NOWHERE: &str = "https://hooks.example.com/orders";

fn delete(target: &str) -> Request {
    Request::new("DELETE", target)
}

fn patch(target: &str, changes: &Value) -> Request {
    Request::new("PATCH", target).json(changes)
}

fn wanted() -> Value {
    json!({ "url": NOWHERE, "events": ["operation.succeeded", "operation.failed"] })
}

fn with(member: &str, value: Value) -> Value {
    let mut wanted = wanted();
    wanted[member] = value;
    wanted
}

async fn subscribed(gateway: &Gateway, body: &Value) -> (String, Value) {
    let answer = gateway.send(post("/-/webhooks").json(body)).await.expect(201);
    let made = answer.json();
    let location = path_of(answer.expect_field("location")).to_owned();
    assert_eq!(made["links"]["self"], *answer.expect_field("location"));
    (location, made)
}

async fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).route("POST /orders", "name = \"orders\"").start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_subscription_is_made_with_a_secret_that_is_shown_once() {
    let (_upstream, gateway) = gateway().await;
    let mut body = with("routes", json!(["orders"]));
    body["tags"] = json!(["account:1"]);
    body["headers"] = json!({ "X-Api-Key": "hunter2" });
    body["description"] = "the shop".into();
    let (location, made) = subscribed(&gateway, &body).await;
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"), "{made}");
    let answer = gateway.get(&location).await.expect(200);
    assert!(!answer.text().contains("whsec_") && !answer.text().contains("hunter2"));
    let shown = answer.json();
    for (member, value) in [
        ("url", json!(NOWHERE)),
        ("events", json!(["operation.succeeded", "operation.failed"])),
        ("routes", json!(["orders"])),
        ("tags", json!(["account:1"])),
        ("headerNames", json!(["x-api-key"])),
        ("description", json!("the shop")),
        ("format", json!("standard")),
        ("status", json!("active")),
    ] {
        assert_eq!(shown[member], value, "{shown}");
    }
    assert_eq!(shown["keys"][0]["signature"], "v1");
    assert!(shown.get("principal").is_none());
}

#[tokio::test]
async fn what_cannot_be_subscribed_is_refused_by_the_name_of_the_member() {
    let (_upstream, gateway) = gateway().await;
    let eleven: serde_json::Map<_, _> = (0..11).map(|n| (format!("x-{n}"), json!("1"))).collect();
    for (body, field) in [
        (json!({ "events": ["operation.failed"] }), "url"),
        (with("url", json!("no url")), "url"),
        (with("url", json!("http://hooks.example.com/")), "url"),
        (with("url", json!("https://user@hooks.example.com/")), "url"),
        (with("url", json!("https://hooks.example.com:22/")), "url"),
        (with("url", json!("https://127.0.0.1/")), "url"),
        (with("url", json!("https://0x7f.1/")), "url"),
        (with("url", json!("https://[::ffff:169.254.169.254]/")), "url"),
        (with("url", json!(7)), "url"),
        (json!({ "url": NOWHERE }), "events"),
        (with("events", json!([])), "events"),
        (with("events", json!(["operation.exploded"])), "events"),
        (with("events", json!(["webhook.ping"])), "events"),
        (with("events", json!("operation.failed")), "events"),
        (with("routes", json!(["nowhere"])), "routes"),
        (with("tags", json!(["a,b"])), "tags"),
        (with("headers", json!({ "Webhook-Id": "x" })), "headers"),
        (with("headers", json!({ "content_type": "x" })), "headers"),
        (with("headers", json!({ "Host": "x" })), "headers"),
        (with("headers", json!({ "x-a": "1\r\nx-b: 2" })), "headers"),
        (with("headers", Value::Object(eleven)), "headers"),
        (with("description", json!("a\u{0}b")), "description"),
        (with("format", json!("xml")), "format"),
        (with("signature", json!("v2")), "signature"),
        (with("secret", json!("whsec_c2hvcnQ=")), "secret"),
        (with("secret", json!("hunter2")), "secret"),
        (with("verification", json!("maybe")), "verification"),
        (with("principal", json!("ann")), "principal"),
        (with("retries", json!(3)), "retries"),
    ] {
        let problem = gateway.send(post("/-/webhooks").json(&body)).await.problem(400);
        assert_eq!(problem["field"], field, "{problem} {body}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
    for body in ["", "{", "[]", "7"] {
        let request = post("/-/webhooks").body("application/json", body);
        gateway.send(request).await.problem(400);
    }
    let form = post("/-/webhooks").body("text/plain", wanted().to_string());
    gateway.send(form).await.problem(415);
    let large = with("description", json!("x".repeat(70_000)));
    gateway.send(post("/-/webhooks").json(&large)).await.problem(413);
    let list = gateway.get("/-/webhooks").await.expect(200).json();
    assert_eq!(list["subscriptions"], json!([]));
}

#[tokio::test]
async fn twenty_are_allowed_and_the_next_is_refused_by_the_name_of_the_setting() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).set("webhooks", "max_subscriptions = 3").start().await;
    let (first, _) = subscribed(&gateway, &wanted()).await;
    for _ in 0..2 {
        subscribed(&gateway, &wanted()).await;
    }
    let problem = gateway.send(post("/-/webhooks").json(&wanted())).await.problem(409);
    assert_eq!(problem["setting"], "webhooks.max_subscriptions");
    gateway.send(delete(&first)).await.expect(204);
    subscribed(&gateway, &wanted()).await;
}

#[tokio::test]
async fn the_list_has_pages_in_the_order_made() {
    let (_upstream, gateway) = gateway().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(subscribed(&gateway, &wanted()).await.1["id"].clone());
    }
    let (mut seen, mut page) = (Vec::new(), Some("/-/webhooks?limit=2".to_owned()));
    while let Some(target) = page {
        let list = gateway.get(&target).await.expect(200).json();
        let some = list["subscriptions"].as_array().unwrap().clone();
        assert!(some.len() <= 2);
        seen.extend(some.iter().map(|subscription| subscription["id"].clone()));
        page = list["links"]["next"].as_str().map(|url| path_of(url).to_owned());
    }
    assert_eq!(seen, made);
    for query in
        ["limit=0", "limit=201", "after=x", "after=0", "after=%2B1", "before=1", "principal=ann"]
    {
        gateway.get(&format!("/-/webhooks?{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn a_change_sets_what_it_says_and_leaves_the_rest() {
    let (_upstream, gateway) = gateway().await;
    let mut body = with("headers", json!({ "X-A": "1", "X-B": "2" }));
    body["description"] = "before".into();
    let (location, _) = subscribed(&gateway, &body).await;
    let changes = json!({
        "events": ["operation.canceled"], "headers": { "x-a": null, "x-c": "3" },
        "description": null,
    });
    let now = gateway.send(patch(&location, &changes)).await.expect(200).json();
    assert_eq!(now["events"], json!(["operation.canceled"]));
    assert_eq!(now["headerNames"], json!(["x-b", "x-c"]));
    assert_eq!((&now["description"], &now["url"]), (&Value::Null, &json!(NOWHERE)));
    for (changes, field) in [
        (json!({ "status": "active" }), "status"),
        (json!({ "secret": "whsec_x" }), "secret"),
        (json!({ "url": null }), "url"),
        (json!({ "url": "https://10.0.0.1/" }), "url"),
        (json!({ "events": null }), "events"),
        (json!({ "headers": { "host": "x" } }), "headers"),
    ] {
        let problem = gateway.send(patch(&location, &changes)).await.problem(400);
        assert_eq!(problem["field"], field, "{problem}");
    }
    assert_eq!(gateway.get(&location).await.expect(200).json(), now);
}

#[tokio::test]
async fn a_change_of_what_somebody_else_has_changed_is_412_where_it_says_what_it_expects() {
    let (_upstream, gateway) = gateway().await;
    let (location, _) = subscribed(&gateway, &wanted()).await;
    let etag = gateway.get(&location).await.expect_field("etag").to_owned();
    let change = |text: &str| patch(&location, &json!({ "description": text }));
    gateway.send(change("one").field("If-Match", &*etag)).await.expect(200);
    let problem = gateway.send(change("two").field("If-Match", &*etag)).await.problem(412);
    assert_eq!(problem["field"], "If-Match");
    gateway.send(change("three")).await.expect(200);
    let shown = gateway.get(&location).await.json();
    assert_eq!(shown["description"], "three");
}

#[tokio::test]
async fn deleting_reading_and_every_other_request_about_it_hold_to_their_preconditions() {
    let (_upstream, gateway) = gateway().await;
    let (location, _) = subscribed(&gateway, &wanted()).await;
    let etag = gateway.get(&location).await.expect_field("etag").to_owned();
    let unchanged = gateway.send(get(&*location).field("If-None-Match", &*etag)).await.expect(304);
    assert_eq!((unchanged.expect_field("etag"), &*unchanged.body), (&*etag, &b""[..]));
    gateway.send(get(&*location).field("If-Match", &*format!("\"a,b\", {etag}"))).await.expect(200);
    gateway.send(get(&*location).field("If-Match", "\"other\"")).await.problem(412);
    let stale = |request: Request| request.field("If-Match", "\"other\"");
    for resource in ["rotate", "ping", "disable", "enable", "replay"] {
        let since = json!({ "since": "2026-01-01T00:00:00Z" });
        let body = if resource == "replay" { since } else { json!({}) };
        let request = post(format!("{location}/{resource}")).json(&body);
        let problem = gateway.send(stale(request)).await.problem(412);
        assert_eq!(problem["field"], "If-Match", "{resource}");
    }
    let delete = Request::new("DELETE", &*location);
    gateway.send(stale(delete.clone())).await.problem(412);
    gateway.send(delete.clone().field("If-Match", "x")).await.problem(400);
    gateway.send(delete.clone().field("If-None-Match", "*")).await.problem(412);
    assert_eq!(gateway.get(&location).await.expect(200).expect_field("etag"), etag);
    gateway.send(delete.field("If-Match", &*etag)).await.expect(204);
    gateway.get(&location).await.problem(404);
}

#[tokio::test]
async fn its_etag_follows_what_can_be_set_and_not_how_its_receiver_does() {
    let scene = Scene::set().await;
    let made = scene.subscribe(&scene.wish("/hooks")).await;
    let etag = async || scene.gateway.get(&made.path).await.expect_field("etag").to_owned();
    let change = |text: &str, etag: &str| {
        patch(&made.path, &json!({ "description": text })).field("If-Match", etag)
    };
    let first = etag().await;
    // It fails, and then it takes what it gets again.
    scene.receiver.script("/hooks", [Manner::status(500)]);
    scene.gateway.post_order().await;
    let failing = |shown: &Value| shown["failingSince"].is_string();
    let shown = scene.until_shown(&made.path, failing).await;
    assert_eq!(etag().await, first);
    scene.gateway.post_order().await;
    scene.until_shown(&made.path, |shown| !failing(shown)).await;
    assert_eq!(etag().await, first, "{shown}");
    scene.gateway.send(change("one", &first)).await.expect(200);
    // Whatever can be set, by whomever: settings, keys, whether it is told.
    let mut before = etag().await;
    assert_ne!(before, first);
    for resource in ["rotate", "disable", "enable"] {
        scene.post(&made.at(resource), &json!({})).await.expect(200);
        let after = etag().await;
        assert_ne!(after, before, "{resource}");
        scene.gateway.send(change("two", &before)).await.problem(412);
        before = after;
    }
    scene.receiver.on("/hooks", Manner::status(410));
    scene.gateway.post_order().await;
    scene.until_shown(&made.path, |shown| shown["status"] == "disabled").await;
    assert_ne!(etag().await, before, "its receiver has disabled it");
}

#[tokio::test]
async fn a_subscription_is_disabled_and_enabled_by_hand() {
    let (_upstream, gateway) = gateway().await;
    let (location, _) = subscribed(&gateway, &wanted()).await;
    for _ in 0..2 {
        let shown = gateway.send(post(format!("{location}/disable"))).await.expect(200).json();
        assert_eq!(
            (&shown["status"], &shown["disabledFor"]),
            (&json!("disabled"), &json!("asked"))
        );
    }
    gateway.send(post(format!("{location}/ping"))).await.problem(409);
    let range = json!({ "since": "2026-11-21T07:00:00Z" });
    gateway.send(post(format!("{location}/replay")).json(&range)).await.problem(409);
    for _ in 0..2 {
        let shown = gateway.send(post(format!("{location}/enable"))).await.expect(200).json();
        assert_eq!((&shown["status"], &shown["disabledAt"]), (&json!("active"), &Value::Null));
    }
}

#[tokio::test]
async fn what_was_deleted_is_nowhere() {
    let (_upstream, gateway) = gateway().await;
    let (location, _) = subscribed(&gateway, &wanted()).await;
    gateway.send(delete(&location)).await.expect(204);
    for request in [
        get(&*location),
        delete(&location),
        patch(&location, &json!({ "description": "x" })),
        post(format!("{location}/ping")),
        get(format!("{location}/deliveries")),
        get("/-/webhooks/5f0c1d2e-3a4b-4c6d-8e8f-901a2b3c4d5e"),
        get("/-/webhooks/nonsense"),
    ] {
        gateway.send(request).await.problem(404);
    }
}

#[tokio::test]
async fn a_rotation_shows_the_new_secret_and_the_former_signs_on_until_its_grace_is_over() {
    let (_upstream, gateway) = gateway().await;
    let (location, made) = subscribed(&gateway, &wanted()).await;
    let rotate = format!("{location}/rotate");
    let first = gateway.send(post(&*rotate)).await.expect(200).json();
    assert!(first["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_ne!(first["secret"], made["secret"]);
    let keys = first["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["retiresAt"]), (2, &Value::Null));
    assert_eq!(keys[1]["retiresAt"], "2026-11-22T08:00:00.000000Z");
    for _ in 0..3 {
        gateway.send(post(&*rotate).json(&json!({ "grace": 60 }))).await.expect(200);
    }
    let problem = gateway.send(post(&*rotate)).await.problem(409);
    assert_eq!(problem["limit"], 5);
    let brought = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = json!({ "secret": brought, "grace": 0 });
    let last = gateway.send(post(&*rotate).json(&body)).await.expect(200).json();
    assert_eq!((&last["secret"], last["keys"].as_array().unwrap().len()), (&json!(brought), 1));
    for (body, field) in [
        (json!({ "grace": -1 }), "grace"),
        (json!({ "grace": "1h" }), "grace"),
        (json!({ "secret": "whsec_c2hvcnQ=" }), "secret"),
        (json!({ "signature": "v1a", "secret": brought }), "secret"),
        (json!({ "beside": "v1" }), "beside"),
        (json!({ "now": true }), "now"),
    ] {
        let problem = gateway.send(post(&*rotate).json(&body)).await.problem(400);
        assert_eq!(problem["field"], field, "{problem}");
    }
}

/// The kinds of keys that sign, the newest first, and whether each does for good.
fn signing(document: &Value) -> Vec<(String, bool)> {
    let keys = document["keys"].as_array().unwrap().iter();
    keys.map(|key| (key["signature"].as_str().unwrap().to_owned(), key["retiresAt"].is_null()))
        .collect()
}

fn kinds(kinds: &[(&str, bool)]) -> Vec<(String, bool)> {
    kinds.iter().map(|(kind, for_good)| ((*kind).to_owned(), *for_good)).collect()
}

#[tokio::test]
async fn a_subscription_goes_over_to_another_kind_or_is_signed_with_both() {
    let (_upstream, gateway) = gateway().await;
    let rotate = async |location: &str, wish: Value| {
        let wish = post(format!("{location}/rotate")).json(&wish);
        gateway.send(wish).await.expect(200).json()
    };
    let (location, _) = subscribed(&gateway, &wanted()).await;
    let over = rotate(&location, json!({ "signature": "v1a" })).await;
    assert_eq!(signing(&over), kinds(&[("v1a", true), ("v1", false)]));
    let next = rotate(&location, json!({ "grace": 0 })).await;
    assert_eq!(signing(&next), kinds(&[("v1a", true)]), "all former ones are cut");
    let (location, _) = subscribed(&gateway, &wanted()).await;
    let both = rotate(&location, json!({ "signature": "v1a", "beside": true })).await;
    assert_eq!(signing(&both), kinds(&[("v1a", true), ("v1", true)]));
    let anew = rotate(&location, json!({ "grace": 0 })).await;
    assert_eq!(signing(&anew), kinds(&[("v1a", true), ("v1", true)]));
    assert!(anew["secret"].is_string() && anew["publicKey"].is_string(), "{anew}");
    let one = rotate(&location, json!({ "signature": "v1", "grace": 0 })).await;
    assert_eq!(signing(&one), kinds(&[("v1", true), ("v1a", true)]));
    assert_eq!(one["keys"][1]["publicKey"], anew["publicKey"], "left alone");
    let only = json!({ "signature": "v1", "grace": 0, "beside": false });
    assert_eq!(signing(&rotate(&location, only).await), kinds(&[("v1", true)]));
}

#[tokio::test]
async fn a_pair_of_keys_shows_its_public_half_also_among_the_keys() {
    let (_upstream, gateway) = gateway().await;
    let (_, made) = subscribed(&gateway, &with("signature", json!("v1a"))).await;
    assert_eq!(made["secret"], Value::Null);
    let public = made["publicKey"].as_str().unwrap();
    assert!(public.starts_with("whpk_"), "{made}");
    subscribed(&gateway, &wanted()).await;
    let first = post("/-/webhooks/callback-key").json(&json!({}));
    let callbacks = gateway.send(first).await.expect(201).json();
    assert!(callbacks["secret"].as_str().unwrap().starts_with("whsec_"));
    let keys = gateway.get("/-/webhooks/keys").await.expect(200).json();
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!((&keys[0]["subscription"], &keys[0]["kty"]), (&Value::Null, &json!("OKP")));
    assert_eq!((&keys[1]["subscription"], &keys[1]["publicKey"]), (&made["id"], &json!(public)));
}

#[tokio::test]
async fn a_callback_key_is_made_and_rotated_and_its_secret_shown_once() {
    let (_upstream, gateway) = gateway().await;
    let target = "/-/webhooks/callback-key";
    assert_eq!(gateway.get(target).await.expect(200).json(), json!({ "keys": [] }));
    gateway.send(post(target)).await.problem(415);
    let first = gateway.send(post(target).json(&json!({}))).await.expect(201).json();
    assert_eq!(first["keys"].as_array().unwrap().len(), 2, "{first}");
    assert!(first["secret"].is_string() && first["publicKey"].is_string(), "{first}");
    let second = gateway.send(post(target).json(&json!({}))).await.expect(200).json();
    assert_ne!((&first["secret"], &first["publicKey"]), (&second["secret"], &second["publicKey"]));
    let shown = gateway.get(target).await.expect(200);
    assert!(!shown.text().contains("whsec_"));
    assert_eq!(shown.json()["keys"].as_array().unwrap().len(), 4);
    assert_eq!(gateway.send(post(target).json(&json!({}))).await.problem(409)["limit"], 5);
    let cut = json!({ "signature": "v1", "grace": 0 });
    let cut = gateway.send(post(target).json(&cut)).await.expect(200).json();
    assert_eq!(signing(&cut), kinds(&[("v1", true), ("v1a", true), ("v1a", false)]));
    gateway.send(post(target).json(&json!({ "beside": true }))).await.problem(400);
}

#[tokio::test]
async fn a_replay_is_an_operation_of_its_own_and_its_window_has_to_make_sense() {
    let (_upstream, gateway) = gateway().await;
    let (location, made) = subscribed(&gateway, &wanted()).await;
    let replay = format!("{location}/replay");
    let range = json!({ "since": "2026-11-21T07:00:00Z", "select": "all" });
    let answer = gateway.send(post(&*replay).json(&range)).await.expect(202);
    assert!(answer.expect_field("location").contains("/-/operations/"));
    let document = answer.json();
    assert_eq!(document["request"], json!({ "method": "TASK", "url": "webhooks.replay" }));
    assert_eq!(
        (&document["route"], &document["queue"]),
        (&json!("webhooks.replay"), &json!("default"))
    );
    assert!(made["id"].is_string());
    for (body, field) in [
        (json!({}), "since"),
        (json!({ "since": "yesterday" }), "since"),
        (json!({ "since": "2026-11-21T07:00:00Z", "until": "2026-11-21T07:00:00Z" }), "until"),
        (json!({ "since": "2026-11-21T07:00:00Z", "until": "2026-11-20T07:00:00Z" }), "until"),
        (json!({ "since": "2026-11-21T09:00:00Z" }), "until"),
        (json!({ "since": "2026-11-21T07:00:00Z", "select": "sent" }), "select"),
        (json!({ "since": "2026-11-21T07:00:00Z", "which": "all" }), "which"),
    ] {
        let problem = gateway.send(post(&*replay).json(&body)).await.problem(400);
        assert_eq!(problem["field"], field, "{problem}");
    }
}

#[tokio::test]
async fn without_sharing_it_is_on_the_admin_listener_only() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).shared(false).start().await;
    for request in
        [get("/-/webhooks"), post("/-/webhooks").json(&wanted()), get("/-/webhooks/callback-key")]
    {
        gateway.send(request).await.problem(404);
    }
    let made = gateway.admin(post("/-/webhooks").json(&wanted())).await.expect(201);
    let location = path_of(made.expect_field("location")).to_owned();
    assert_eq!(gateway.admin(get(&*location)).await.expect(200).json()["principal"], "");
    gateway.get(&location).await.problem(404);
}

#[tokio::test]
async fn another_principals_is_as_good_as_none_and_operators_say_whose() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .principal("header:X-User")
        .set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    let of = |user: &str, request: Request| request.field("X-User", user);
    let made = gateway.send(of("ann", post("/-/webhooks").json(&wanted()))).await.expect(201);
    let location = path_of(made.expect_field("location")).to_owned();
    gateway.send(get(&*location)).await.problem(401);
    for request in [
        get(&*location),
        delete(&location),
        patch(&location, &json!({ "description": "mine" })),
        post(format!("{location}/rotate")),
        post(format!("{location}/disable")),
        get(format!("{location}/deliveries")),
    ] {
        gateway.send(of("bob", request)).await.problem(404);
    }
    let list = gateway.send(of("bob", get("/-/webhooks"))).await.expect(200).json();
    assert_eq!(list["subscriptions"], json!([]));
    let problem = gateway.admin(post("/-/webhooks").json(&wanted())).await.problem(400);
    assert_eq!(problem["field"], "principal");
    let body = with("principal", json!("bob"));
    gateway.admin(post("/-/webhooks").json(&body)).await.expect(201);
    let list = gateway.send(of("bob", get("/-/webhooks"))).await.expect(200).json();
    assert_eq!(list["subscriptions"].as_array().unwrap().len(), 1);
    let all = gateway.admin(get("/-/webhooks")).await.expect(200).json();
    assert_eq!(all["subscriptions"].as_array().unwrap().len(), 2);
    let anns = gateway.admin(get("/-/webhooks?principal=ann")).await.expect(200).json();
    assert_eq!(anns["subscriptions"][0]["principal"], "ann");
}

#[tokio::test]
async fn without_a_lasting_public_url_the_setting_is_named() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).listen_everywhere().start().await;
    let problem = gateway.send(post("/-/webhooks").json(&wanted())).await.problem(409);
    assert_eq!(problem["setting"], "server.public_url");
}

#[tokio::test]
async fn public_keys_are_readable_without_a_credential() {
    for principal in ["authorization", "header:X-User"] {
        let upstream = Upstream::start().await;
        let gateway = Setup::before(&upstream)
            .principal(principal)
            .set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
            .start()
            .await;
        let of = |user: &str, request: Request| {
            request.field("X-User", user).field("Authorization", user)
        };
        let pair = with("signature", json!("v1a"));
        let mut made = Vec::new();
        for user in ["ann", "bob"] {
            let answer = gateway.send(of(user, post("/-/webhooks").json(&pair))).await.expect(201);
            made.push(answer.json()["publicKey"].clone());
        }
        let first = of("ann", post("/-/webhooks/callback-key").json(&json!({})));
        made.push(gateway.send(first).await.expect(201).json()["publicKey"].clone());
        let shared = of("ann", post("/-/webhooks").json(&wanted()));
        gateway.send(shared).await.expect(201);
        let answer = gateway.get("/-/webhooks/keys").await.expect(200);
        assert!(!answer.text().contains("subscription") && !answer.text().contains("whsec_"));
        let all = answer.json();
        assert_eq!(public(&all), made, "{principal}");
        let kid = all["keys"][1]["kid"].as_str().unwrap();
        let one = gateway.get(&format!("/-/webhooks/keys?kid={kid}")).await.expect(200).json();
        assert_eq!(public(&one), made[1..2]);
        let foreign = of("ann", get(format!("/-/webhooks/keys?kid={kid}")));
        assert_eq!(gateway.send(foreign).await.expect(200).json()["keys"], json!([]));
        let own = gateway.send(of("bob", get("/-/webhooks/keys"))).await.expect(200).json();
        assert_eq!(public(&own), made[1..2], "{principal}");
        let mut pages = Vec::new();
        let mut page = Some("/-/webhooks/keys?limit=1".to_owned());
        while let Some(target) = page {
            let found = gateway.get(&target).await.expect(200).json();
            pages.extend(public(&found));
            page = found["links"]["next"].as_str().map(|url| path_of(url).to_owned());
        }
        assert_eq!(pages, made);
        for wrong in ["kid=x", "limit=0", "after=x", "principal=ann"] {
            gateway.get(&format!("/-/webhooks/keys?{wrong}")).await.problem(400);
        }
        gateway.get("/-/webhooks/callback-key").await.problem(401);
    }
}

fn public(keys: &Value) -> Vec<Value> {
    keys["keys"].as_array().unwrap().iter().map(|key| key["publicKey"].clone()).collect()
}

#[tokio::test]
async fn public_keys_are_readable_where_subscriptions_are_for_operators() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).shared(false).start().await;
    assert_eq!(gateway.get("/-/webhooks/keys").await.expect(200).json()["keys"], json!([]));
    let pair = with("signature", json!("v1a"));
    let made = gateway.admin(post("/-/webhooks").json(&pair)).await.expect(201).json();
    let keys = gateway.get("/-/webhooks/keys").await.expect(200).json();
    assert_eq!(public(&keys), [made["publicKey"].clone()]);
    let gone = delete(made["links"]["self"].as_str().map(path_of).unwrap()).json(&json!({}));
    gateway.admin(gone).await.expect(204);
    let keys = gateway.get("/-/webhooks/keys").await.expect(200).json();
    assert_eq!(keys["keys"], json!([]), "a deleted subscription's sign no more");
}

#[tokio::test]
async fn what_is_sent_wrongly_is_told_by_what_is_wrong_with_it() {
    let (_upstream, gateway) = gateway().await;
    for method in ["PUT", "DELETE"] {
        let answer = gateway.send(Request::new(method, "/-/webhooks")).await;
        assert!(answer.expect_field("allow").contains("POST"), "{answer:?}");
        answer.problem(405);
    }
    gateway.send(post("/-/webhooks")).await.problem(400);
    gateway.send(post("/-/webhooks").body("text/plain", "{}")).await.problem(415);
    for (body, field) in [
        (r#"{"url":"https://a.example","url":"https://b.example"}"#, "url"),
        (r#"{"headers":{"X-A":"1","X-A":"2"}}"#, "X-A"),
        (r#"{"events":[],"\u0065vents":["operation.failed"]}"#, "events"),
    ] {
        let request = post("/-/webhooks").body("application/json", body);
        assert_eq!(gateway.send(request).await.problem(400)["field"], field, "{body}");
    }
    let list = gateway.get("/-/webhooks").await.expect(200).json();
    assert_eq!(list["subscriptions"], json!([]));
}
