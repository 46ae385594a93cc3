//! The 202: accepted, and where to ask.
//!
//! Owns the fields of every 202, at acceptance, at the monitor and at the result of a
//! pending operation.

use axum::response::Response;
use http::header::{CONTENT_LOCATION, HeaderMap, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use super::document::Document;
use super::own;

/// How a new or repeated request is told that it is accepted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acceptance<'a> {
    /// `Prefer: return=minimal` was honoured: no document.
    pub minimal: bool,
    /// What `Preference-Applied` says.
    pub applied: Option<&'a str>,
    /// Whole seconds, 1 to 30.
    pub retry_after: u64,
}

/// The 202 of an acceptance, with the document unless minimal.
pub fn accepted(document: &Document, acceptance: Acceptance<'_>) -> Response {
    let mut response = if acceptance.minimal {
        own::empty(StatusCode::ACCEPTED)
    } else {
        own::json(StatusCode::ACCEPTED, own::DOCUMENT_TYPE, document)
    };
    let headers = response.headers_mut();
    point_to_monitor(headers, document, acceptance.retry_after);
    own::set(headers, CONTENT_LOCATION, &document.links.monitor);
    if let Some(applied) = acceptance.applied {
        own::set(headers, own::PREFERENCE_APPLIED, applied);
    }
    response
}

/// The 202 of an operation that is still pending.
pub fn still(document: &Document, retry_after: u64) -> Response {
    let mut response = own::json(StatusCode::ACCEPTED, own::DOCUMENT_TYPE, document);
    let headers = response.headers_mut();
    point_to_monitor(headers, document, retry_after);
    own::set(headers, own::X_PROGRESS, progress(document));
    response
}

/// `Location`, `Operation-Location`, `Operation-Id`, `Retry-After`.
pub fn point_to_monitor(headers: &mut HeaderMap, document: &Document, retry_after: u64) {
    own::set(headers, LOCATION, &document.links.monitor);
    own::set(headers, own::OPERATION_LOCATION, &document.links.status);
    own::set(headers, own::OPERATION_ID, &document.id);
    headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.clamp(1, 30)));
}

/// Under 100 characters of ASCII, the number first.
fn progress(document: &Document) -> String {
    const LONGEST: usize = 99;
    let percent = document.percent_complete.unwrap_or(0);
    let said = document.message.as_deref().unwrap_or(&document.status);
    let plain = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let mut text: String = format!("{percent}% {said}").chars().map(plain).take(LONGEST).collect();
    text.truncate(text.trim_end().len());
    text
}
