//! A gateway that may deliver to a receiver on loopback, in front of an upstream.

use cloakroom_domain::webhooks::Secret;
use cloakroom_domain::webhooks::signature::{SignatureHeaders, VerificationKey, verify};
use serde_json::{Value, json};

use crate::support::gateway::path_of;
use crate::support::{Arrival, Gateway, Receiver, Response, Setup, Upstream, post, time};

pub struct Scene {
    pub upstream: Upstream,
    pub receiver: Receiver,
    pub gateway: Gateway,
}

/// What opens loopback to deliveries to these ports.
pub fn open_to(ports: &[u16]) -> String {
    format!("allow = [\"127.0.0.0/8\", \"::1/128\"]\nallow_http = true\nports = {ports:?}")
}

/// A subscription that was made.
#[derive(Debug)]
pub struct Made {
    pub path: String,
    pub document: Value,
}

impl Made {
    pub fn at(&self, resource: &str) -> String {
        format!("{}/{resource}", self.path)
    }

    /// Whether a delivery carries a signature with its secret, made at that time.
    pub fn has_signed(&self, arrival: &Arrival, gateway: &Gateway) -> bool {
        let secret = Secret::parse(self.document["secret"].as_str().unwrap()).unwrap();
        let signed = SignatureHeaders {
            id: Some(arrival.id()),
            timestamp: Some(arrival.field("webhook-timestamp")),
            signature: Some(arrival.field("webhook-signature")),
        };
        verify(signed, &arrival.body, &VerificationKey::Secret(secret), gateway.clock.now()).is_ok()
    }
}

impl Scene {
    pub async fn set() -> Self {
        Self::set_with(|setup| setup).await
    }

    /// The same with more in its configuration.
    pub async fn set_with(more: impl FnOnce(Setup) -> Setup) -> Self {
        let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
        let setup = Setup::before(&upstream).set("webhooks", &open_to(&[receiver.address.port()]));
        let gateway = more(setup).start().await;
        Self { upstream, receiver, gateway }
    }

    /// What asks to be told at this path of the receiver how operations end.
    pub fn wish(&self, path: &str) -> Value {
        let events = ["operation.succeeded", "operation.failed", "operation.canceled"];
        json!({ "url": self.receiver.url(path), "events": events })
    }

    pub async fn subscribe(&self, wish: &Value) -> Made {
        let answer = self.gateway.send(post("/-/webhooks").json(wish)).await.expect(201);
        let path = path_of(answer.expect_field("location")).to_owned();
        Made { path, document: answer.json() }
    }

    pub async fn post(&self, target: &str, body: &Value) -> Response {
        self.gateway.send(post(target).json(body)).await
    }

    pub async fn deliveries(&self, of: &Made, query: &str) -> Vec<Value> {
        let list = self.gateway.get(&of.at(&format!("deliveries{query}"))).await.expect(200);
        list.json()["deliveries"].as_array().unwrap().clone()
    }

    /// Looks until what is shown there is as wanted.
    pub async fn until_shown(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until_delivery(0, path, wanted).await
    }

    /// The same for a delivery, while the clock moves by so many seconds; but not during
    /// attempts, which are not to run into their timeouts.
    pub async fn until_delivery(
        &self,
        seconds: u64,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let probe = || async {
            let shown = self.gateway.get(path).await.expect(200).json();
            let now = self.gateway.clock.now().rfc3339();
            if shown["nextAttemptAt"].as_str().is_some_and(|due| *due > *now) {
                self.gateway.advance(seconds);
            }
            Some(shown).filter(&wanted)
        };
        time::until("a delivery as wanted", probe).await
    }

    /// Looks until all that was made for a subscription has been delivered, that many.
    pub async fn until_delivered(&self, of: &Made, count: usize) -> Vec<Value> {
        let probe = || async {
            let all = self.deliveries(of, "?state=delivered").await;
            (all.len() >= count).then_some(all)
        };
        time::until("everything has been delivered", probe).await
    }
}
