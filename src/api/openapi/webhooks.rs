//! The webhook resources and messages of the `OpenAPI` document.

use serde_json::{Map, Value, json};

use super::parts::{content, in_path, json_of, optional, response};
use super::paths::{accepted, resource, with};
use crate::api::response::JSON_TYPE;
use cloakroom_domain::webhooks::Topic;

const ID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";
const NUMBER: &str = "^[1-9][0-9]{0,17}$";
/// `If-Match` (RFC 9110 section 13.1.1).
const TAGS: &str = r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$"#;
/// A secret of 24 to 64 bytes; a pair, as its seed or with its public half behind it.
const SECRETS: &str = concat!(
    "^(whsec_([A-Za-z0-9+/]{4}){8,20}([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?|[A-Za-z0-9+/][AQgw](==)?)?",
    "|whsec_([A-Za-z0-9+/]{4}){21}[A-Za-z0-9+/][AQgw](==)?",
    "|whsk_([A-Za-z0-9+/]{4}){10}[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?",
    "|whsk_([A-Za-z0-9+/]{4}){21}[A-Za-z0-9+/][AQgw](==)?)$",
);
/// The name of a header field.
const FIELD: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// One line of text.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
const UNKNOWN: (u16, &str) =
    (404, "No such subscription, or it belongs to another principal; or not offered here.");
const NOT_OFFERED: (u16, &str) = (404, "Not offered here: nothing tells callers apart.");
const UNJUDGED: (u16, &str) = (
    503,
    "The name of the URL's host was not looked up in time; or the ledger cannot be reached, or the \
     gateway is stopping.",
);
const TOO_LARGE: (u16, &str) = (413, "The body is too large.");
const NO_JSON: (u16, &str) = (415, "The body is not announced as JSON.");

/// The paths.
pub(super) fn paths() -> Map<String, Value> {
    let all = json!({
        "/-/webhooks": { "get": list(), "post": create() },
        "/-/webhooks/keys": { "get": keys() },
        "/-/webhooks/callback-key": { "get": callback_key(), "post": rotate_callback_key() },
        "/-/webhooks/{id}": {
            "parameters": [id()], "get": show(), "patch": change(), "delete": delete(),
        },
        "/-/webhooks/{id}/enable": { "parameters": [id()], "post": enable() },
        "/-/webhooks/{id}/disable": { "parameters": [id()], "post": disable() },
        "/-/webhooks/{id}/rotate": { "parameters": [id()], "post": rotate() },
        "/-/webhooks/{id}/ping": { "parameters": [id()], "post": ping() },
        "/-/webhooks/{id}/replay": { "parameters": [id()], "post": replay() },
        "/-/webhooks/{id}/deliveries": { "parameters": [id()], "get": deliveries() },
        "/-/webhooks/{id}/deliveries/{number}": {
            "parameters": [id(), number()], "get": delivery(),
        },
        "/-/webhooks/{id}/deliveries/{number}/redeliver": {
            "parameters": [id(), number()], "post": redeliver(),
        },
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

fn id() -> Value {
    in_path("id", "The subscription's id.", ID)
}

fn number() -> Value {
    in_path("number", "The delivery's number.", NUMBER)
}

/// A response that a subscription is in.
fn shows(says: &str, fields: &[&str], schema: &str) -> Value {
    response(says, &[fields, &["ETag"]].concat(), json_of(schema))
}

/// The same with a body of these members.
fn taking(resource: Value, required: bool, schema: &str) -> Value {
    let body = json!({ "required": required, "content": content(JSON_TYPE, schema) });
    with(resource, "requestBody", body)
}

fn principal() -> Value {
    let says = "On the admin listener: whose; where callers are told apart.";
    optional("query", "principal", says, json!({ "type": "string" }))
}

fn page(which: &str) -> [Value; 2] {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 });
    [
        optional(
            "query",
            which,
            "From links.next.",
            json!({ "type": "string", "pattern": NUMBER }),
        ),
        optional("query", "limit", "How many at most.", limit),
    ]
}

/// The query parameters of a list of deliveries.
fn of_deliveries() -> Value {
    let states = json!({
        "type": "string", "enum": ["pending", "held", "failed", "delivered", "all"],
    });
    let [before, limit] = page("before");
    json!([optional("query", "state", "Only those that stand so.", states), before, limit])
}

fn list() -> Value {
    let good = vec![(200, response("A page, the oldest first.", &[], json_of("SubscriptionList")))];
    let resource = resource("listSubscriptions", "List one's subscriptions", good, &[NOT_OFFERED]);
    let [after, limit] = page("after");
    with(resource, "parameters", json!([after, limit, principal()]))
}

fn create() -> Value {
    let made =
        shows("Made; the secret is shown this once.", &["Location"], "NewSubscriptionDocument");
    let bad = [
        NOT_OFFERED,
        (409, "There are as many as may be, or the gateway has no lasting public URL."),
        TOO_LARGE,
        NO_JSON,
        UNJUDGED,
    ];
    let resource = resource("subscribe", "Be told of what happens", vec![(201, made)], &bad);
    taking(resource, true, "NewSubscription")
}

fn show() -> Value {
    let good = vec![(200, shows("The subscription.", &[], "SubscriptionDocument"))];
    resource("showSubscription", "One subscription", good, &[UNKNOWN])
}

fn change() -> Value {
    let good = vec![(200, shows("As it is now.", &[], "SubscriptionDocument"))];
    let bad = [
        UNKNOWN,
        (409, "Others kept changing it."),
        (412, "It is not what If-Match names."),
        TOO_LARGE,
        NO_JSON,
        UNJUDGED,
    ];
    let resource = resource("changeSubscription", "Set what is said", good, &bad);
    let tag = optional(
        "header",
        "If-Match",
        "The ETag of what is to be changed. It changes with settings, keys and status, and \
         not with how deliveries fare.",
        json!({ "type": "string", "pattern": TAGS }),
    );
    let resource = with(resource, "parameters", json!([tag]));
    taking(resource, true, "SubscriptionChange")
}

fn delete() -> Value {
    let good = vec![(204, response("Deleted; what was on its way is dropped.", &[], Value::Null))];
    resource("deleteSubscription", "Be told of nothing more", good, &[UNKNOWN])
}

fn enable() -> Value {
    let good = vec![(200, shows("Active.", &[], "SubscriptionDocument"))];
    let bad = [
        UNKNOWN,
        (409, "The receiver has not agreed, or another request has just changed the subscription."),
        TOO_LARGE,
        NO_JSON,
    ];
    resource("enableSubscription", "Let it go on", good, &bad)
}

fn disable() -> Value {
    let good =
        vec![(200, shows("Disabled; what comes meanwhile is held.", &[], "SubscriptionDocument"))];
    let bad = [
        UNKNOWN,
        (
            409,
            "The receiver has not agreed yet, or another request has just changed the subscription.",
        ),
        TOO_LARGE,
        NO_JSON,
    ];
    resource("disableSubscription", "Send nothing more to it", good, &bad)
}

fn rotate() -> Value {
    let made =
        response("The new keys, this once, and all that sign.", &[], json_of("RotationDocument"));
    let bad = [UNKNOWN, (409, "More keys would sign than may."), TOO_LARGE, NO_JSON];
    let resource = resource("rotateSecret", "Make new keys", vec![(200, made)], &bad);
    taking(resource, false, "Rotation")
}

fn ping() -> Value {
    let made = response("On its way.", &["Location"], json_of("DeliveryDocument"));
    let bad = [UNKNOWN, (409, "The subscription is not active."), TOO_LARGE, NO_JSON];
    resource("pingSubscription", "Send a test event to it", vec![(202, made)], &bad)
}

fn replay() -> Value {
    let good = vec![(202, accepted("An operation of its own."))];
    let bad = [UNKNOWN, (409, "The subscription is not active."), TOO_LARGE, NO_JSON];
    let resource = resource("replayDeliveries", "Send a range of time once more", good, &bad);
    taking(resource, true, "Replay")
}

fn deliveries() -> Value {
    let good = vec![(200, response("A page, newest first.", &[], json_of("DeliveryList")))];
    let resource =
        resource("listDeliveries", "What was sent, with every attempt", good, &[UNKNOWN]);
    with(resource, "parameters", of_deliveries())
}

/// Those of the callback of an operation.
pub(super) fn callback_deliveries() -> Value {
    let good = vec![(200, response("A page, newest first.", &[], json_of("DeliveryList")))];
    let unknown = (404, "No such operation, or it belongs to another principal.");
    let says = "What was sent to its callback, with every attempt";
    let resource = resource("listCallbackDeliveries", says, good, &[unknown]);
    with(resource, "parameters", of_deliveries())
}

fn delivery() -> Value {
    let good = vec![(200, response("The delivery.", &[], json_of("DeliveryDocument")))];
    resource("showDelivery", "One delivery, with every attempt", good, &[UNKNOWN])
}

fn redeliver() -> Value {
    let going = |says| response(says, &["Location"], json_of("DeliveryDocument"));
    let good = vec![
        (200, going("This delivery, at once instead of later.")),
        (201, going("As this new delivery.")),
    ];
    let bad = [
        UNKNOWN,
        (409, "It is being sent as it is, or the subscription is not active."),
        TOO_LARGE,
        NO_JSON,
    ];
    resource("redeliver", "Send the same message once more, or now", good, &bad)
}

fn keys() -> Value {
    let good = vec![(200, response("A JWK set.", &[], json_of("PublicKeys")))];
    let says = "Public keys that verify what is signed with v1a";
    let resource = resource("listPublicKeys", says, good, &[]);
    let [after, limit] = page("after");
    let says = "Only the key that webhook-key-id names.";
    let kid = optional("query", "kid", says, json!({ "type": "string" }));
    with(resource, "parameters", json!([after, limit, principal(), kid]))
}

fn callback_key() -> Value {
    let good = vec![(200, response("What there is.", &[], json_of("CallbackKeys")))];
    let says = "What one's callbacks are signed with";
    let resource = resource("showCallbackKey", says, good, &[NOT_OFFERED]);
    with(resource, "parameters", json!([principal()]))
}

fn rotate_callback_key() -> Value {
    let made = |says| response(says, &[], json_of("RotationDocument"));
    let good = vec![(200, made("The new keys, this once.")), (201, made("The first, this once."))];
    let bad = [NOT_OFFERED, (409, "More keys would sign than may."), TOO_LARGE, NO_JSON];
    let resource = resource("rotateCallbackKey", "Make new keys for callbacks", good, &bad);
    taking(resource, true, "CallbackRotation")
}

/// The request bodies of these resources.
pub(super) fn schemas() -> Map<String, Value> {
    let change = settings();
    let mut new = settings();
    new["required"] = json!(["url", "events"]);
    let further = json!({
        "signature": {
            "type": ["string", "null"], "enum": ["v1", "v1a", null], "default": "v1",
            "description": "HMAC-SHA256 with a shared secret, or Ed25519.",
        },
        "secret": {
            "type": ["string", "null"], "pattern": SECRETS,
            "description": "A secret to sign with, whsec_… of 24 to 64 bytes, or a key pair, \
                            whsk_…; a new one is made without it.",
        },
        "verification": {
            "type": ["string", "null"], "enum": ["none", "cloudevents", null], "default": "none",
            "description": "Whether the receiver is asked first, with OPTIONS, as CloudEvents do; \
                            and the receiver at a new URL, when the URL changes.",
        },
        "principal": {
            "type": ["string", "null"],
            "description": "On the admin listener: whose it is; where callers are told apart.",
        },
    });
    add(&mut new, &further);
    fit(&mut new);
    let mut rotation = object(&json!({
        "grace": {
            "type": ["integer", "null"], "minimum": 0, "maximum": 2_592_000, "default": 86400,
            "description": "For how many seconds former keys sign on at most, 0 for not at all. \
                            Where a kind is said that signs already, those of that kind.",
        },
        "signature": {
            "type": ["string", "null"], "enum": ["v1", "v1a", null],
            "description": "The kind of the new key; without it each kind that signs is made anew.",
        },
        "secret": further["secret"],
    }));
    fit(&mut rotation);
    let mut callback = rotation.clone();
    add(&mut callback, &json!({ "principal": further["principal"] }));
    let beside = json!({
        "type": ["boolean", "null"],
        "description": "Whether the other kind is left to sign as it does. Unless said: where \
                        the kind of the new key was said and signs already, and not where it \
                        takes the place of the other.",
    });
    add(&mut rotation, &json!({ "beside": beside }));
    let mut replay = object(&json!({
        "since": { "type": "string", "format": "date-time", "description": "Made at or after." },
        "until": {
            "type": ["string", "null"], "format": "date-time",
            "description": "Made before; now unless set. Later than since.",
        },
        "select": {
            "type": ["string", "null"],
            "enum": ["failed", "pending", "held", "delivered", "all", null],
            "default": "failed",
            "description": "How it stands. What is pending has its next attempt at once; of the \
                            rest a new delivery is made.",
        },
    }));
    replay["required"] = json!(["since"]);
    let all = [
        ("NewSubscription", new),
        ("SubscriptionChange", change),
        ("Rotation", rotation),
        ("CallbackRotation", callback),
        ("Replay", replay),
        ("OperationMessage", message()),
        ("SubscriptionMessage", about_subscription()),
    ];
    all.map(|(name, schema)| (name.to_owned(), schema)).into_iter().collect()
}

fn object(properties: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn add(schema: &mut Value, properties: &Value) {
    for (name, property) in properties.as_object().into_iter().flatten() {
        schema["properties"][name] = property.clone();
    }
}

/// A secret that is brought is of the kind that is asked for.
fn fit(schema: &mut Value) {
    let of = |kind: &str, prefix: &str| {
        json!({
            "if": { "properties": { "signature": { "const": kind } }, "required": ["signature"] },
            "then": { "properties": { "secret": { "pattern": prefix } } },
        })
    };
    schema["allOf"] = json!([of("v1", "^whsec_"), of("v1a", "^whsk_")]);
}

/// The settings of a subscription.
fn settings() -> Value {
    let events: Vec<_> = Topic::ALL.map(Topic::as_str).to_vec();
    object(&json!({
        "url": {
            "type": "string", "format": "uri", "maxLength": 2048, "pattern": "^https?://[^/?#@]",
            "description": "Where messages go: https, without userinfo, to a public address.",
        },
        "events": { "type": "array", "minItems": 1, "items": { "type": "string", "enum": events } },
        "routes": {
            "type": ["array", "null"], "maxItems": 100, "items": { "type": "string" },
            "description": "Only of these routes.",
        },
        "tags": {
            "type": ["array", "null"], "maxItems": 16,
            "items": { "type": "string", "pattern": "^[!-+\\--~]{1,256}$" },
            "description": "Only with one of these tags.",
        },
        "headers": {
            "type": ["object", "null"], "maxProperties": 10,
            "propertyNames": { "pattern": FIELD },
            "additionalProperties": {
                "type": ["string", "null"], "maxLength": 4096, "pattern": "^[ -~]*$",
            },
            "description": "Up to 10 header fields that every delivery gets. Not webhook-*, \
                            content-*, host, or what belongs to the connection. A change merges \
                            them by name; null takes one out.",
        },
        "description": { "type": ["string", "null"], "maxLength": 500, "pattern": LINE },
        "format": { "type": ["string", "null"], "enum": ["standard", "cloudevents", null] },
    }))
}

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

/// The messages, an entry for each event.
pub(super) fn messages() -> Value {
    let mut all = Map::new();
    for topic in Topic::ALL.into_iter().chain([Topic::Ping]) {
        let id: String = topic.as_str().split('.').map(capitalized).collect();
        all.insert(topic.as_str().to_owned(), json!({ "post": told(topic, &format!("on{id}")) }));
    }
    Value::Object(all)
}

/// The callback of an accepted request.
pub(super) fn callback() -> Value {
    json!({ "{$request.header.Callback-Url}": { "post": told(Topic::Succeeded, "callback") } })
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    format!("{}{rest}", first.to_ascii_uppercase())
}

/// One message, as a receiver gets it.
fn told(topic: Topic, id: &str) -> Value {
    let schema = if topic.is_of_operation() { "OperationMessage" } else { "SubscriptionMessage" };
    let field = |name: &str, says: &str| {
        json!({
            "name": name, "in": "header", "required": true, "description": says,
            "schema": { "type": "string" },
        })
    };
    json!({
        "operationId": id,
        "summary": says(topic),
        "parameters": [
            field("webhook-id", "The same for every attempt, receiver and replay of one event."),
            field("webhook-timestamp", "When this attempt was signed, in seconds since 1970."),
            field("webhook-signature", "Signatures by all live keys, the current one first."),
        ],
        "requestBody": { "required": true, "content": content(JSON_TYPE, schema) },
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
