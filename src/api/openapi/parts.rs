//! What several resources have in common in their description.

use serde_json::{Map, Value, json};

use crate::api::own::{DOCUMENT_TYPE, JSON_TYPE};
use crate::api::problem::{PROBLEM_TYPE, kinds};

/// `application/problem+json` (RFC 9457), with every `type` that there is.
pub(super) fn problem_schema() -> Value {
    let types: Vec<String> = kinds::ALL.iter().map(|kind| kind.uri()).collect();
    json!({
        "type": "object",
        "description": "A refusal or failure of the gateway's own (RFC 9457).",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "format": "uri", "enum": types },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "What happened and what to do next." },
            "field": { "type": "string", "description": "The header field or member at fault." },
            "parameter": { "type": "string", "description": "The query parameter at fault." },
        },
    })
}

/// What an upstream reports.
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
        "ETag": text("Changes with the operation."),
        "Preference-Applied": text("The preferences that were honoured (RFC 7240)."),
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
    for field in ["Gateway-Origin"].iter().chain(fields) {
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

/// The responses that are problems, by status.
pub(super) fn problems(statuses: &[(u16, &str)]) -> Map<String, Value> {
    let everywhere = [
        (400, "The path, a field or a parameter cannot be used."),
        (401, "A credential is required."),
        (500, "The gateway failed."),
        (503, "The ledger cannot be reached; see Retry-After."),
    ];
    let mut responses = Map::new();
    for (status, says) in everywhere.iter().chain(statuses) {
        responses.insert(status.to_string(), response(says, &[], content(PROBLEM_TYPE, "Problem")));
    }
    responses
}

/// A parameter in the path.
pub(super) fn in_path(name: &str, says: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": says,
        "schema": { "type": "string", "pattern": "^[0-9A-Za-z-]+$" },
    })
}

/// A parameter in the query or in the header section.
pub(super) fn optional(place: &str, name: &str, says: &str, schema: Value) -> Value {
    let mut parameter = json!({ "name": name, "in": place, "description": says });
    parameter["schema"] = schema;
    parameter
}
