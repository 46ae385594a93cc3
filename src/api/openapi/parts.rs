//! Parameters, headers and schemas that several descriptions share.

use serde_json::{Value, json};

use crate::api::problem::kinds;

/// `application/problem+json` (RFC 9457), with every `type` that there is.
pub(super) fn problem_schema() -> Value {
    let types: Vec<String> = kinds::ALL.iter().map(|kind| kind.uri()).collect();
    json!({
        "type": "object",
        "description": "A refusal or failure of the gateway's own (RFC 9457).",
        "required": ["type", "title", "status", "detail", "error"],
        "properties": {
            "type": { "type": "string", "format": "uri", "enum": types },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "What happened and what to do next." },
            "error": {
                "type": "object",
                "description": "The same for SDKs, which read it from here.",
                "required": ["code", "message"],
                "properties": {
                    "code": {
                        "type": "string",
                        "description": "The code of the failure, else the last part of `type`.",
                    },
                    "message": { "type": "string", "description": "As `detail`." },
                },
            },
            "field": { "type": "string", "description": "The header field or member at fault." },
            "differs": {
                "type": "array",
                "items": { "type": "string" },
                "description": "What differs from the first request with the idempotency key.",
            },
            "monitor": {
                "type": "string", "format": "uri",
                "description": "The monitor of the operation that this is about.",
            },
            "parameter": { "type": "string", "description": "The query parameter at fault." },
        },
    })
}

/// The response fields, by name.
pub(super) fn headers() -> Value {
    let text = |says: &str| json!({ "description": says, "schema": { "type": "string" } });
    let uri = |says: &str| json!({ "description": says, "schema": { "type": "string", "format": "uri" } });
    json!({
        "Location": uri("The monitor, or where it leads."),
        "Operation-Location": uri("The operation document."),
        "Operation-Id": {
            "description": "The operation's id.",
            "schema": { "type": "string", "format": "uuid" },
        },
        "Retry-After": {
            "description": "Whole seconds until it is worth asking again.",
            "schema": { "type": "integer", "minimum": 1, "maximum": 30 },
        },
        "X-Progress": text("Under 100 characters of ASCII, the percentage first."),
        "ETag": text(
            "Changes with the operation; that of a subscription with its settings, keys and status.",
        ),
        "Preference-Applied": text("The preferences that were honoured (RFC 7240)."),
        "Content-Location": uri("The monitor, whose document this is."),
        "Idempotency-Replayed": text("`true`: the key was known, and this is that operation."),
        "Cache-Control": text("Nothing of this is to be stored."),
        "Referrer-Policy": text("The URL is a secret and not to be told."),
        "Vary": text("`Accept`: it decides what is shown."),
        "WWW-Authenticate": text("The challenge (RFC 9110 section 11.6.1)."),
        "Accept-Ranges": text("`bytes`."),
        "Content-Range": text("Which octets these are, and of how many."),
        "Content-Security-Policy": text("What the upstream wrote runs nothing here."),
        "X-Content-Type-Options": text("`nosniff`."),
        "Upstream-Status": {
            "description": "The status that the upstream answered with.",
            "schema": { "type": "integer", "minimum": 100, "maximum": 999 },
        },
        "Gateway-Origin": {
            "description": "Who made the answer.",
            "schema": { "type": "string", "enum": ["cloakroom", "upstream"] },
        },
    })
}

/// A parameter in the path.
pub(in crate::api) fn in_path(name: &str, says: &str, pattern: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": says,
        "schema": { "type": "string", "pattern": pattern },
    })
}

/// An optional parameter in the query.
pub(in crate::api) fn query(name: &str, says: &str, schema: Value) -> Value {
    optional("query", name, says, schema)
}

/// An optional field of the header section.
pub(in crate::api) fn header(name: &str, says: &str, schema: Value) -> Value {
    optional("header", name, says, schema)
}

fn optional(place: &str, name: &str, says: &str, schema: Value) -> Value {
    let mut parameter = json!({ "name": name, "in": place, "description": says });
    parameter["schema"] = schema;
    parameter
}

/// Any text, for parameters.
pub(in crate::api) fn text() -> Value {
    json!({ "type": "string" })
}
