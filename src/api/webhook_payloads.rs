//! Webhook payloads: the JSON bodies of messages to receivers.
//!
//! Owns their wording: `type`, `timestamp` and `data`, which is the operation document with
//! `sequence`. Its invariant: every URL in it is absolute and lasting, because the program that reads
//! it was not part of any request; nothing of the upstream's answer and no query of the
//! client's request is in it.

use bytes::Bytes;
use serde::Serialize;

use super::document::Document;
use cloakroom_domain::http::links::Links;
use cloakroom_domain::http::public_url::PublicOrigin;
use cloakroom_domain::webhooks::Topic;
use cloakroom_domain::{TicketKey, Timestamp};
use cloakroom_ledger::{Message, MessageRenderer, Operation, Subscription, SubscriptionState};

/// Writes messages.
pub struct WebhookPayloads {
    prefix: String,
    base: Option<String>,
    key: TicketKey,
}

impl WebhookPayloads {
    /// Writes for a gateway whose own resources lie under `prefix` of `public`; `key` makes
    /// its tickets.
    pub fn new(prefix: &str, public: &PublicOrigin, key: &TicketKey) -> Self {
        let base = public.lasting().map(str::to_owned);
        Self { prefix: prefix.to_owned(), base, key: key.clone() }
    }
}

/// The body of a message.
#[derive(Serialize)]
struct PayloadBody<T> {
    r#type: &'static str,
    timestamp: String,
    data: T,
}

/// An operation as its event left it.
#[derive(Serialize)]
struct OperationPayload {
    #[serde(flatten)]
    document: Document,
    /// Rises within an operation.
    sequence: u32,
}

/// A subscription, and what was to be delivered to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionPayload {
    subscription: SubscriptionSummary,
    /// `webhook-id` of what was given up.
    message: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionSummary {
    id: String,
    url: String,
    description: Option<String>,
    status: &'static str,
    disabled_for: Option<&'static str>,
    failing_since: Option<String>,
}

impl MessageRenderer for WebhookPayloads {
    fn about_operation(
        &self,
        topic: Topic,
        operation: &Operation,
        sequence: u32,
        at: Timestamp,
        public_base: Option<&str>,
    ) -> Message {
        let base = self.base.as_deref().or(public_base).unwrap_or_default();
        let links = Links::new(base, &self.prefix, self.key.ticket(operation.id));
        let mut document = Document::of(operation, &links, base);
        document.request.url = without_query(&document.request.url);
        let data = OperationPayload { document, sequence };
        let name = format!("msg_{}_{sequence}", operation.id);
        Message { name, body: body(topic, at, data) }
    }

    fn about_subscription(
        &self,
        topic: Topic,
        subscription: &Subscription,
        delivery: Option<&str>,
        at: Timestamp,
    ) -> Message {
        let disabled_for = match subscription.state {
            SubscriptionState::Disabled { why, .. } => Some(why.as_str()),
            SubscriptionState::Active | SubscriptionState::Unverified => None,
        };
        let shown = SubscriptionSummary {
            id: subscription.id.to_string(),
            url: without_query(&subscription.settings.url),
            description: subscription.settings.description.clone(),
            status: subscription.state.as_str(),
            disabled_for,
            failing_since: subscription.failing_since.map(Timestamp::rfc3339),
        };
        let data =
            SubscriptionPayload { subscription: shown, message: delivery.map(str::to_owned) };
        // It is about no operation: nothing but chance tells it apart.
        let name = format!("msg_{:032x}", rand::random::<u128>());
        Message { name, body: body(topic, at, data) }
    }
}

fn body(topic: Topic, at: Timestamp, data: impl Serialize) -> Bytes {
    let body = PayloadBody { r#type: topic.as_str(), timestamp: at.rfc3339(), data };
    // Strings, numbers and lists of them: there is nothing that could fail.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// A URL or target up to its query, which may carry secrets.
fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
