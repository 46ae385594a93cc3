//! From the secret that the API showed to what a receiver believes: what a running gateway
//! sends, judged by the reference library.

use ed25519_dalek::{Signature, VerifyingKey};
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};

use super::example;
use super::judges::decoded;
use super::scene::{Made, Scene, open_to};
use crate::support::gateway::{Process, order, path_of};
use crate::support::{Arrival, Receiver, Request, Setup, Upstream, post, time};

const CALLBACK_KEY: &str = "/-/webhooks/callback-key";

/// A program of its own, whose clock is that of the library.
struct Running {
    _upstream: Upstream,
    receiver: Receiver,
    process: Process,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(|setup| setup).await
    }

    async fn start_with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
        let setup = Setup::before(&upstream)
            .set("webhooks", &open_to(&[receiver.address.port()]))
            .route("POST /orders", "callbacks = \"any\"");
        let process = more(setup).spawn().await;
        Self { _upstream: upstream, receiver, process }
    }

    /// A subscription, and what showed its secret.
    async fn subscribe(&self, path: &str) -> (String, Value) {
        let wish = json!({ "url": self.receiver.url(path), "events": ["operation.succeeded"] });
        let answer = self.process.send(post("/-/webhooks").json(&wish)).await.expect(201);
        (path_of(answer.expect_field("location")).to_owned(), answer.json())
    }

    async fn rotate(&self, target: &str, wish: &Value) -> Value {
        let answer = self.process.send(post(target).json(wish)).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer.json()
    }

    /// What arrives there for a request that is carried out: its only message.
    async fn told(&self, path: &str, request: Request) -> Arrival {
        let ticket = self.process.accept(request).await;
        let mine = |arrival: &Arrival| arrival.target == path && arrival.id().contains(&ticket.id);
        let arrived = || async { self.receiver.arrivals().into_iter().find(mine) };
        time::until("the message", arrived).await
    }

    fn calling_back(&self, path: &str) -> Request {
        order().field("Callback-Url", self.receiver.url(path))
    }
}

/// Whether the reference library believes it with the secret that was shown there.
fn believed(shown: &Value, arrival: &Arrival) -> bool {
    believed_with(shown, arrival, &arrival.body)
}

fn believed_with(shown: &Value, arrival: &Arrival, body: &[u8]) -> bool {
    let mut fields = HeaderMap::new();
    for (name, value) in &arrival.fields {
        fields.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    example::verified(shown["secret"].as_str().unwrap(), &fields, body)
}

/// Whether it is signed with the private half of that `whpk_…`, says a library for Ed25519.
fn signed_by(public: &Value, arrival: &Arrival) -> bool {
    let octets = decoded(public.as_str().unwrap().strip_prefix("whpk_").unwrap());
    let key = VerifyingKey::from_bytes(&octets.try_into().unwrap()).unwrap();
    let head = format!("{}.{}.", arrival.id(), arrival.field("webhook-timestamp"));
    let message = [head.as_bytes(), &arrival.body].concat();
    let tokens = arrival.field("webhook-signature").split(' ');
    let mut pairs = tokens.filter_map(|token| token.strip_prefix("v1a,"));
    pairs.any(|token| {
        let signature = Signature::from_slice(&decoded(token)).unwrap();
        key.verify_strict(&message, &signature).is_ok()
    })
}

#[tokio::test]
async fn a_delivery_is_believed_with_the_secret_that_was_shown_and_with_no_other() {
    let running = Running::start().await;
    let (_, mine) = running.subscribe("/mine").await;
    let (_, other) = running.subscribe("/other").await;
    let arrival = running.told("/mine", order()).await;
    assert!(believed(&mine, &arrival), "{arrival:?}");
    assert!(!believed(&other, &arrival));
    assert!(!believed_with(&mine, &arrival, b"{}"));
    let body: Value = serde_json::from_slice(&arrival.body).unwrap();
    assert_eq!(body["type"], "operation.succeeded");
}

#[tokio::test]
async fn a_rotation_reaches_what_is_sent_next_and_a_grace_of_nothing_ends_the_former_at_once() {
    let running = Running::start().await;
    let (location, first) = running.subscribe("/hooks").await;
    assert!(believed(&first, &running.told("/hooks", order()).await));
    let rotate = format!("{location}/rotate");
    let second = running.rotate(&rotate, &json!({ "grace": 3600 })).await;
    let arrival = running.told("/hooks", order()).await;
    assert!(believed(&second, &arrival) && believed(&first, &arrival), "{arrival:?}");
    let third = running.rotate(&rotate, &json!({ "grace": 0 })).await;
    let arrival = running.told("/hooks", order()).await;
    assert!(believed(&third, &arrival), "{arrival:?}");
    assert!(!believed(&second, &arrival) && !believed(&first, &arrival), "{arrival:?}");
}

#[tokio::test]
async fn a_former_secret_signs_until_its_grace_is_over() {
    let scene = Scene::set().await;
    let first = scene.subscribe(&scene.wish("/hooks")).await;
    let document = scene.post(&first.at("rotate"), &json!({})).await.expect(200).json();
    let second = Made { path: first.path.clone(), document };
    for (seconds, signs) in [(24 * 3600 - 60, true), (60, false)] {
        scene.gateway.advance(seconds);
        let count = scene.receiver.count() + 1;
        scene.gateway.post_order().await;
        let arrival = scene.receiver.until_arrived(count).await.pop().unwrap();
        assert!(second.has_signed(&arrival, &scene.gateway), "{arrival:?}");
        assert_eq!(first.has_signed(&arrival, &scene.gateway), signs, "{arrival:?}");
    }
}

#[tokio::test]
async fn a_callback_is_believed_with_the_callback_key_and_with_no_subscriptions() {
    let running = Running::start().await;
    let (_, subscription) = running.subscribe("/subscribed").await;
    let key = running.rotate(CALLBACK_KEY, &json!({})).await;
    let callback = running.told("/called", running.calling_back("/called")).await;
    assert!(believed(&key, &callback) && !believed(&subscription, &callback), "{callback:?}");
    let subscribed = running.told("/subscribed", order()).await;
    assert!(believed(&subscription, &subscribed) && !believed(&key, &subscribed));
    let public = running.process.get("/-/webhooks/keys").await.expect(200).json();
    assert!(signed_by(&public["keys"][0]["publicKey"], &callback), "{public} {callback:?}");
    let next = running.rotate(CALLBACK_KEY, &json!({ "signature": "v1", "grace": 0 })).await;
    let callback = running.told("/called", running.calling_back("/called")).await;
    assert!(believed(&next, &callback) && !believed(&key, &callback), "{callback:?}");
    assert!(signed_by(&public["keys"][0]["publicKey"], &callback), "the pair has stayed");
}

#[tokio::test]
async fn each_principals_callbacks_are_believed_with_its_own_key_only() {
    let running = Running::start_with(|setup| {
        setup.principal("header:X-User").set("server", "trusted_proxies = [\"127.0.0.0/8\"]")
    })
    .await;
    let mut told = Vec::new();
    for user in ["ann", "bob"] {
        let wish = post(CALLBACK_KEY).json(&json!({})).field("X-User", user);
        let key = running.process.send(wish).await.expect(201).json();
        let path = format!("/{user}");
        let request = running.calling_back(&path).field("X-User", user);
        told.push((key, running.told(&path, request).await));
    }
    let [(anns, to_ann), (bobs, to_bob)] = &told[..] else { panic!("two of them") };
    assert!(believed(anns, to_ann) && believed(bobs, to_bob), "{told:?}");
    assert!(!believed(anns, to_bob) && !believed(bobs, to_ann), "{told:?}");
}
