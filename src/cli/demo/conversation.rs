//! The conversation of the demo: a subscription, an order that is created, and a payment whose
//! outcome is unknown.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::super::failure::CommandError;
use super::super::http::HttpClient;
use super::narration;
use super::receiver::{BoundPort, DemoReceiver};
use cloakroom_domain::webhooks::Secret;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// How long any one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a monitor is asked before the demo gives up.
const POLLS: u32 = 30;

/// A client of the gateway that says everything aloud.
pub(super) struct DemoClient {
    clock: Clock,
    http: HttpClient,
    origin: String,
}

/// What the conversation led to.
#[derive(Debug)]
pub(super) struct DemoLinks {
    /// The URL of the order.
    pub(super) order: String,
    /// The monitor of the payment.
    pub(super) payment: String,
}

impl DemoClient {
    /// A client of the gateway at this address.
    pub(super) fn new(clock: Clock, gateway: SocketAddr) -> Result<Self, CommandError> {
        let http = HttpClient::new(clock.clone())?;
        Ok(Self { clock, http, origin: format!("http://{gateway}") })
    }

    /// Holds the whole conversation; an error where it did not end as it should.
    pub(super) async fn converse(
        &self,
        hook: &mut DemoReceiver,
    ) -> Result<DemoLinks, CommandError> {
        let order = self.order().await?;
        narration::aside(
            "without a request of the client, this arrived at the receiver meanwhile",
        )?;
        hook.told("operation.succeeded", "/createdLocation", &order).await?;
        let payment = self.payment().await?;
        narration::aside("the receiver was told of this one, too")?;
        hook.told("operation.failed", "/links/monitor", &payment).await?;
        Ok(DemoLinks { order, payment })
    }

    /// Subscribes a receiver at `place`, through the admin listener, and has it receive.
    pub(super) async fn subscribe(
        &self,
        admin: SocketAddr,
        place: BoundPort,
        tasks: &Tasks,
    ) -> Result<(DemoReceiver, String), CommandError> {
        narration::heading("1. A receiver that gets webhooks")?;
        let (receiver, port) = (place.address, place.address.port());
        narration::explain(&format!(
            "Who does not want to ask is sent a webhook: signed, and again until it is taken. A \
             receiver listens on http://{receiver}. Webhooks go to public addresses over https \
             unless the operator allows more, so this demo opens loopback, which is no setting for \
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
        narration::aside("the secret is shown this once; the receiver verifies with it")?;
        narration::aside(&format!("that POST went to the admin listener, http://{admin}"))?;
        narration::aside("nothing here tells callers apart, so only operators may subscribe")?;
        let id = made["id"].as_str().unwrap_or_default().to_owned();
        Ok((place.receive(secret, self.clock.clone(), tasks), id))
    }

    async fn order(&self) -> Result<String, CommandError> {
        narration::heading("2. An order that takes a while")?;
        narration::explain(
            "The order service needs a second and a half for an order. Instead of waiting, the \
             client gets a ticket: where to ask, and how soon.",
        )?;
        let monitor = self.hand_in("/orders", &json!({ "sku": "A-1", "quantity": 2 })).await?;
        narration::aside("the order is on disk now: even a power cut would not lose it")?;
        let end = self.finished(&monitor).await?;
        narration::aside("303: it is finished, and this is what was created")?;
        let created = location(&end)?;
        let answer = self.get(&created).await?;
        let order: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        if answer.status() != StatusCode::OK || order["sku"] != "A-1" {
            return Err(unexpected("the created order", &answer));
        }
        narration::aside(
            "that came straight from the order service: only the POST was asynchronous",
        )?;
        Ok(created)
    }

    async fn payment(&self) -> Result<String, CommandError> {
        narration::heading("3. A payment whose outcome is unknown")?;
        narration::explain(
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
        narration::aside("sent once, and not again; what its message says is what to do next:")?;
        let message = document["error"]["message"].as_str().unwrap_or_default();
        narration::explain(&format!("\n    {message}\n"))?;
        narration::explain(
            "Where sending twice does no harm, say so on the route, and it is tried again until \
             there is an answer:\n\n    [[routes]]\n    match = \"POST /payments\"\n    \
             delivery = \"at-least-once\"",
        )?;
        Ok(monitor)
    }

    /// Posts, and gives the monitor's URL.
    async fn hand_in(&self, path: &str, body: &Value) -> Result<String, CommandError> {
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
    async fn finished(&self, monitor: &str) -> Result<Response<Bytes>, CommandError> {
        let mut answer = self.get(monitor).await?;
        for _ in 0..POLLS {
            match answer.status() {
                StatusCode::SEE_OTHER => return Ok(answer),
                StatusCode::ACCEPTED => {}
                _ => return Err(unexpected("202 or 303 from the monitor", &answer)),
            }
            let pause = retry_after(&answer);
            narration::aside(&format!("waiting {} s, as Retry-After says", pause.as_secs()))?;
            self.clock.sleep(pause).await;
            answer = self.get(monitor).await?;
        }
        Err(unexpected("303 within a minute", &answer))
    }

    async fn get(&self, url: &str) -> Result<Response<Bytes>, CommandError> {
        self.send(Request::get(url).body(Bytes::new())).await
    }

    async fn send(
        &self,
        request: http::Result<Request<Bytes>>,
    ) -> Result<Response<Bytes>, CommandError> {
        let request = request.map_err(|error| CommandError::Failed(error.to_string()))?;
        narration::request(&request)?;
        let answer = self.http.send(PATIENCE, request).await;
        let answer =
            answer.map_err(|error| CommandError::Failed(format!("the gateway: {error}")))?;
        narration::response(&answer)?;
        Ok(answer)
    }
}

fn location(answer: &Response<Bytes>) -> Result<String, CommandError> {
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    location.map(str::to_owned).ok_or_else(|| unexpected("a Location", answer))
}

fn retry_after(answer: &Response<Bytes>) -> Duration {
    let field = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = field.and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds)
}

fn unexpected(wanted: &str, answer: &Response<Bytes>) -> CommandError {
    CommandError::Failed(format!(
        "the demo did not go as it should: expected {wanted}, got {}; please report this with \
         what is printed above",
        answer.status()
    ))
}

#[cfg(test)]
mod tests;
