//! The messages that receivers of webhooks get.

use serde_json::{Map, Value, json};

use super::response_doc::Schemas;
use super::tags::Tag;
use crate::api::response::JSON_TYPE;
use cloakroom_domain::webhooks::Topic;

/// The payload about an operation.
fn message() -> Value {
    let kinds = Topic::ALL.into_iter().filter(|topic| topic.is_of_operation());
    let kinds: Vec<_> = kinds.map(Topic::as_str).collect();
    let data = json!({
        "allOf": [
            { "$ref": "#/components/schemas/Document" },
            {
                "type": "object", "required": ["sequence"],
                "properties": {
                    "sequence": {
                        "type": "integer", "minimum": 0,
                        "description": "Rises within an operation: what came later has the higher one.",
                    },
                },
            },
        ],
    });
    body(&kinds, data)
}

/// The payload about a subscription.
fn about_subscription() -> Value {
    let kinds = Topic::ALL.into_iter().chain([Topic::Ping]);
    let kinds: Vec<_> = kinds.filter(|topic| !topic.is_of_operation()).map(Topic::as_str).collect();
    body(&kinds, json!({ "type": "object" }))
}

fn body(kinds: &[&str], data: Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": { "type": "string", "enum": kinds },
            "timestamp": {
                "type": "string", "format": "date-time", "description": "When it happened.",
            },
        },
    });
    schema["properties"]["data"] = data;
    schema
}

/// The schemas of the messages.
pub(super) fn schemas() -> Schemas {
    let all = [("OperationMessage", message()), ("SubscriptionMessage", about_subscription())];
    all.map(|(name, schema)| (name.to_owned(), schema)).into_iter().collect()
}

/// The messages, an entry for each event.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for topic in Topic::ALL.into_iter().chain([Topic::Ping]) {
        let id: String = topic.as_str().split('.').map(capitalized).collect();
        all.insert(
            topic.as_str().to_owned(),
            json!({ "post": told(topic, &format!("receive{id}")) }),
        );
    }
    Value::Object(all)
}

/// The callback of an accepted request, under this id.
pub(super) fn callback(id: &str) -> Value {
    json!({ "{$request.header.Callback-Url}": { "post": told(Topic::Succeeded, id) } })
}

/// The word with a capital at its beginning.
pub(super) fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    format!("{}{rest}", first.to_ascii_uppercase())
}

/// One message, as a receiver gets it.
fn told(topic: Topic, id: &str) -> Value {
    let schema = if topic.is_of_operation() { "OperationMessage" } else { "SubscriptionMessage" };
    let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
    let field = |name: &str, says: &str| {
        json!({
            "name": name, "in": "header", "required": true, "description": says,
            "schema": { "type": "string" },
        })
    };
    json!({
        "operationId": id,
        "tags": [Tag::Messages.name()],
        "summary": says(topic),
        "parameters": [
            field("webhook-id", "The same for every attempt, receiver and replay of one event."),
            field("webhook-timestamp", "When this attempt was signed, in seconds since 1970."),
            field("webhook-signature", "Signatures by all live keys, the current one first."),
        ],
        "requestBody": { "required": true, "content": { JSON_TYPE: { "schema": schema } } },
        "responses": {
            "2XX": { "description": "Taken." },
            "410": { "description": "No more, please: the subscription is disabled." },
            "default": { "description": "Tried again later." },
        },
    })
}

fn says(topic: Topic) -> &'static str {
    match topic {
        Topic::Succeeded => "An operation succeeded",
        Topic::Failed => "An operation failed",
        Topic::Canceled => "An operation was canceled",
        Topic::Reconciled => "A person found out about an unknown outcome",
        Topic::Accepted => "An operation was accepted",
        Topic::Started => "An attempt began",
        Topic::Progressed => "The upstream reported progress",
        Topic::Disabled => "A subscription was disabled",
        Topic::Exhausted => "A delivery was given up",
        Topic::Recovered => "A subscription that had failed takes deliveries again",
        Topic::Ping => "A test event that a caller asked for",
    }
}
