//! The conversation of the demo: somebody who wants to be told, an order that is created, and
//! a payment whose outcome nobody knows.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::super::exchange::exchange;
use super::super::failure::Failure;
use super::hook::{Hook, Place};
use super::voice;
use cloakroom_domain::delivery::Secret;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How long any one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a monitor is asked before the demo gives up.
const POLLS: u32 = 30;

/// A client of the gateway that says everything aloud.
pub(super) struct Client {
    clock: Clock,
    origin: String,
}

/// What the conversation led to.
#[derive(Debug)]
pub(super) struct Led {
    /// The URL of the order.
    pub(super) order: String,
    /// The monitor of the payment.
    pub(super) payment: String,
}

impl Client {
    /// A client of the gateway at this address.
    pub(super) fn new(clock: Clock, gateway: SocketAddr) -> Self {
        Self { clock, origin: format!("http://{gateway}") }
    }

    /// Holds the whole conversation; an error where it did not end as it should.
    pub(super) async fn converse(&self, hook: &mut Hook) -> Result<Led, Failure> {
        let order = self.order().await?;
        voice::aside("nobody had to ask: this arrived at the receiver meanwhile")?;
        hook.told("operation.succeeded", "/createdLocation", &order).await?;
        let payment = self.payment().await?;
        voice::aside("the receiver was told of this one, too")?;
        hook.told("operation.failed", "/links/monitor", &payment).await?;
        Ok(Led { order, payment })
    }

    /// Subscribes a receiver at `place`, through the admin listener, and has it receive.
    pub(super) async fn subscribe(
        &self,
        admin: SocketAddr,
        place: Place,
        tasks: &Tasks,
    ) -> Result<(Hook, String), Failure> {
        voice::heading("1. Somebody who would rather be told")?;
        let (receiver, port) = (place.address, place.address.port());
        voice::explain(&format!(
            "Who does not want to ask is sent a webhook: signed, and again until it is taken. A \
             receiver listens on http://{receiver}. Webhooks go to public addresses over https \
             unless somebody opens more, so this demo opens loopback, which is no setting for \
             production:\n\n    [webhooks]\n    allow = [\"127.0.0.0/8\"]\n    \
             allow_http = true\n    ports = [{port}]"
        ))?;
        let wish = json!({
            "url": format!("http://{receiver}/hooks"),
            "events": ["operation.succeeded", "operation.failed"],
        });
        let request = Request::post(format!("http://{admin}/-/webhooks"))
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(wish.to_string()));
        let answer = self.send(request).await?;
        if answer.status() != StatusCode::CREATED {
            return Err(unexpected("201 Created", &answer));
        }
        let made: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let secret = made["secret"].as_str().and_then(|secret| Secret::parse(secret).ok());
        let secret = secret.ok_or_else(|| unexpected("a secret", &answer))?;
        voice::aside("the secret is shown this once; the receiver verifies with it")?;
        voice::aside(&format!("that POST went to the admin listener, http://{admin}"))?;
        voice::aside("nothing here tells callers apart, so only operators may subscribe")?;
        let id = made["id"].as_str().unwrap_or_default().to_owned();
        Ok((place.receive(secret, self.clock.clone(), tasks), id))
    }

    async fn order(&self) -> Result<String, Failure> {
        voice::heading("2. An order that takes a while")?;
        voice::explain(
            "The order service needs a second and a half for an order. Instead of waiting, the \
             client gets a ticket: where to ask, and how soon.",
        )?;
        let monitor = self.hand_in("/orders", &json!({ "sku": "A-1", "quantity": 2 })).await?;
        voice::aside("the order is on disk now: even a power cut would not lose it")?;
        let end = self.finished(&monitor).await?;
        voice::aside("303: it is finished, and this is what was created")?;
        let created = location(&end)?;
        let answer = self.get(&created).await?;
        let order: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        if answer.status() != StatusCode::OK || order["sku"] != "A-1" {
            return Err(unexpected("the created order", &answer));
        }
        voice::aside("that came straight from the order service: only the POST was asynchronous")?;
        Ok(created)
    }

    async fn payment(&self) -> Result<String, Failure> {
        voice::heading("3. A payment that nobody knows the outcome of")?;
        voice::explain(
            "This service reads a payment and then drops the connection. Was it booked? A \
             gateway that tried again might pay twice, so a POST goes at most once unless its \
             route says otherwise.",
        )?;
        let monitor = self.hand_in("/payments", &json!({ "amount": "12.50" })).await?;
        self.finished(&monitor).await?;
        let answer = self.get(&format!("{monitor}/status")).await?;
        let document: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        if document["error"]["code"] != "outcome-unknown" {
            return Err(unexpected("a failure called outcome-unknown", &answer));
        }
        voice::aside("sent once, and not again; what its message says is what to do next:")?;
        let message = document["error"]["message"].as_str().unwrap_or_default();
        voice::explain(&format!("\n    {message}\n"))?;
        voice::explain(
            "Where sending twice does no harm, say so on the route, and it is tried again until \
             there is an answer:\n\n    [[routes]]\n    match = \"POST /payments\"\n    \
             delivery = \"at-least-once\"",
        )?;
        Ok(monitor)
    }

    /// Posts, and gives the monitor's URL.
    async fn hand_in(&self, path: &str, body: &Value) -> Result<String, Failure> {
        let request = Request::post(format!("{}{path}", self.origin))
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::from(body.to_string()));
        let answer = self.send(request).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(unexpected("202 Accepted", &answer));
        }
        location(&answer)
    }

    /// Asks the monitor, as often as it says, until it leads elsewhere.
    async fn finished(&self, monitor: &str) -> Result<Response<Bytes>, Failure> {
        let mut answer = self.get(monitor).await?;
        for _ in 0..POLLS {
            match answer.status() {
                StatusCode::SEE_OTHER => return Ok(answer),
                StatusCode::ACCEPTED => {}
                _ => return Err(unexpected("202 or 303 from the monitor", &answer)),
            }
            let pause = retry_after(&answer);
            voice::aside(&format!("waiting {} s, as Retry-After says", pause.as_secs()))?;
            self.clock.sleep(pause).await;
            answer = self.get(monitor).await?;
        }
        Err(unexpected("303 within a minute", &answer))
    }

    async fn get(&self, url: &str) -> Result<Response<Bytes>, Failure> {
        self.send(Request::get(url).body(Bytes::new())).await
    }

    async fn send(
        &self,
        request: http::Result<Request<Bytes>>,
    ) -> Result<Response<Bytes>, Failure> {
        let request = request.map_err(|error| Failure::Failed(error.to_string()))?;
        voice::request(&request)?;
        let answer = exchange(&self.clock, PATIENCE, request).await;
        let answer = answer.map_err(|error| Failure::Failed(format!("the gateway: {error}")))?;
        voice::response(&answer)?;
        Ok(answer)
    }
}

fn location(answer: &Response<Bytes>) -> Result<String, Failure> {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    location.map(str::to_owned).ok_or_else(|| unexpected("a Location", answer))
}

fn retry_after(answer: &Response<Bytes>) -> Duration {
    let field = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = field.and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds)
}

fn unexpected(wanted: &str, answer: &Response<Bytes>) -> Failure {
    Failure::Failed(format!(
        "the demo did not go as it should: expected {wanted}, got {}; please report this with \
         what is printed above",
        answer.status()
    ))
}

#[cfg(test)]
mod tests;
