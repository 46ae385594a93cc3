//! Every refusal and failure of the gateway's own, as `application/problem+json`
//! (RFC 9457).
//!
//! Owns the one table of problems: a `type` that stays, a status, a title. What went
//! wrong inside is logged here and never told to a client. It must not know when a
//! problem applies, beyond the errors that it is made from.

mod constructors;
mod errors;
pub mod kinds;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::response;
pub use kinds::ProblemKind;

/// The content type of every problem.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// One refusal or failure, ready to be answered.
#[derive(Clone, Debug)]
pub struct Problem(Box<ProblemParts>);

#[derive(Clone, Debug)]
struct ProblemParts {
    kind: &'static ProblemKind,
    status: StatusCode,
    detail: String,
    extensions: Map<String, Value>,
    fields: HeaderMap,
}

impl Problem {
    /// A problem of that kind; `detail` says what to do next.
    pub fn new(kind: &'static ProblemKind, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemParts {
            kind,
            status: kind.status(),
            detail: detail.into(),
            extensions: Map::new(),
            fields: HeaderMap::new(),
        }))
    }

    /// The same with a further member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(member.to_owned(), value.into());
        self
    }

    /// The same with a further field in its answer; what cannot be a value is left out.
    #[must_use]
    pub fn with_field(mut self, name: HeaderName, text: impl AsRef<str>) -> Self {
        response::set(&mut self.0.fields, name, text);
        self
    }

    /// Whether its answer has that field already.
    pub fn has_field(&self, name: &HeaderName) -> bool {
        self.0.fields.contains_key(name)
    }

    /// The same with `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What happened and what to do next.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Its kind.
    pub fn kind(&self) -> &'static ProblemKind {
        self.0.kind
    }

    fn body(&self) -> Value {
        let inner = &self.0;
        // SDKs look for what went wrong in a member of this name and read nothing else. Where
        // a problem is about a failed operation, its code says more than that of the problem.
        let code = inner.extensions.get("code").and_then(Value::as_str).unwrap_or(inner.kind.name);
        let mut body = json!({
            "type": inner.kind.uri(),
            "title": inner.kind.title,
            "status": inner.status.as_u16(),
            "detail": inner.detail,
            "error": { "code": code, "message": inner.detail },
        });
        if let Value::Object(members) = &mut body {
            members.extend(inner.extensions.clone());
        }
        body
    }
}

impl Problem {
    /// Its answer in parts: the fields are all there, the length among them.
    pub fn into_parts(self) -> (StatusCode, HeaderMap, Vec<u8>) {
        let octets = self.body().to_string().into_bytes();
        let mut headers = self.0.fields;
        response::mark(&mut headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(octets.len()));
        (self.0.status, headers, octets)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, headers, octets) = self.into_parts();
        let mut response = Response::new(Body::from(octets));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests;
