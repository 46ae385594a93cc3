//! Response helpers: the headers that all of the gateway's own answers carry.
//!
//! Owns the marks (`Gateway-Origin`, no caching, no referrer) and the few ways to make an
//! answer. It must not know what is answered.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
};
use http::{StatusCode, header};
use serde::Serialize;

/// Says who made an answer.
pub const GATEWAY_ORIGIN: HeaderName = HeaderName::from_static("gateway-origin");
/// The id of the operation that an answer is about.
pub const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");
/// Where that operation's document is.
pub const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");
/// Preferences that were honoured (RFC 7240 section 3).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// How far a pending operation is.
pub const X_PROGRESS: HeaderName = HeaderName::from_static("x-progress");
/// The status of a recorded answer.
pub const UPSTREAM_STATUS: HeaderName = HeaderName::from_static("upstream-status");

/// The type of the operation document.
pub const DOCUMENT_TYPE: &str = "application/vnd.cloakroom.operation+json";
/// The type of lists and timelines.
pub const JSON_TYPE: &str = "application/json";

/// Room for most documents, and for most answers' fields.
const USUAL_BODY: usize = 2048;
const USUAL_FIELDS: usize = 16;

/// The fields of every answer of the gateway's own.
pub const fn marks() -> [(HeaderName, HeaderValue); 3] {
    [
        (GATEWAY_ORIGIN, HeaderValue::from_static("cloakroom")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
}

/// Marks an answer as the gateway's own.
pub fn mark(headers: &mut HeaderMap) {
    for (name, value) in marks() {
        headers.insert(name, value);
    }
}

/// Sets a field, unless the text cannot be a field's value.
pub fn set(headers: &mut HeaderMap, name: HeaderName, text: impl AsRef<str>) {
    if let Ok(value) = HeaderValue::from_str(text.as_ref()) {
        headers.insert(name, value);
    }
}

/// An answer of the gateway's own without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().reserve(USUAL_FIELDS);
    mark(response.headers_mut());
    response
}

/// An answer of the gateway's own with a JSON body.
pub fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response {
    let mut response = empty(status);
    let mut octets = Vec::with_capacity(USUAL_BODY);
    // Every body here is made of strings, numbers and maps with text keys: it serializes.
    let _ = serde_json::to_writer(&mut octets, body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(octets.len()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    *response.body_mut() = Body::from(octets);
    response
}
