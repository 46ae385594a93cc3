//! Parameters, headers and responses that several resources share in the `OpenAPI` document.

use serde_json::{Map, Value, json};

use crate::api::problem::{PROBLEM_TYPE, kinds};
use crate::api::response::{DOCUMENT_TYPE, JSON_TYPE};

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

/// The progress report of an upstream.
pub(super) fn progress_schema() -> Value {
    json!({
        "type": "object",
        "anyOf": [{ "required": ["percentComplete"] }, { "required": ["message"] }],
        "properties": {
            "percentComplete": { "type": "number", "minimum": 0, "maximum": 100 },
            "message": { "type": "string", "description": "200 characters of it are kept." },
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

/// A response of that description, with these fields and this content.
pub(super) fn response(says: &str, fields: &[&str], content: Value) -> Value {
    let mut headers = Map::new();
    for field in ["Gateway-Origin", "Cache-Control", "Referrer-Policy"].iter().chain(fields) {
        let reference = json!({ "$ref": format!("#/components/headers/{field}") });
        headers.insert((*field).to_owned(), reference);
    }
    let mut response = json!({ "description": says, "headers": headers });
    if !content.is_null() {
        response["content"] = content;
    }
    response
}

/// Content of that type and schema.
pub(super) fn content(kind: &str, schema: &str) -> Value {
    json!({ kind: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

/// An operation document as content.
pub(super) fn document() -> Value {
    content(DOCUMENT_TYPE, "Document")
}

/// JSON of that schema as content.
pub(super) fn json_of(schema: &str) -> Value {
    content(JSON_TYPE, schema)
}

/// The responses that are problems, by status. Those of the connection, of callers and of
/// the ledger can meet every request.
pub(super) fn problems(statuses: &[(u16, &str)]) -> Map<String, Value> {
    let everywhere = [
        (400, "The path, a field or a parameter cannot be used."),
        (401, "A credential is required."),
        (403, "On the admin listener: a page of another site sent it."),
        (408, "The request did not arrive in time."),
        (414, "The target is too long."),
        (415, "On the admin listener: a change is sent as JSON."),
        (421, "On the admin listener: it does not answer to that host."),
        (431, "The header section is too large."),
        (500, "The gateway failed; its log says why."),
        (503, "The ledger cannot be reached, or the gateway is stopping."),
    ];
    let mut responses = Map::new();
    for (status, says) in everywhere.iter().chain(statuses) {
        let fields: &[&str] = match status {
            401 => &["WWW-Authenticate"],
            416 => &["Content-Range"],
            503 => &["Retry-After"],
            _ => &[],
        };
        let refusal = response(says, fields, content(PROBLEM_TYPE, "Problem"));
        responses.insert(status.to_string(), refusal);
    }
    responses
}

/// A parameter in the path.
pub(super) fn in_path(name: &str, says: &str, pattern: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": says,
        "schema": { "type": "string", "pattern": pattern },
    })
}

/// A parameter in the query or in the header section.
pub(super) fn optional(place: &str, name: &str, says: &str, schema: Value) -> Value {
    let mut parameter = json!({ "name": name, "in": place, "description": says });
    parameter["schema"] = schema;
    parameter
}
