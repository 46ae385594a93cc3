//! The 202 response: the operation is accepted, and its monitor is named.
//!
//! Owns the fields of every 202, at acceptance, at the monitor and at the result of a
//! pending operation.

use axum::response::Response;
use http::header::{CONTENT_LOCATION, HeaderMap, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use super::document::Document;
use super::response;

/// The content of the 202 for a new or repeated request.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptedReply<'a> {
    /// `Prefer: return=minimal` was honoured: no document.
    pub minimal: bool,
    /// The value of `Preference-Applied`.
    pub applied: Option<&'a str>,
    /// Where and when to ask.
    pub pointer: MonitorPointer,
}

/// How a 202 says where and when to ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonitorPointer {
    /// Whole seconds, 1 to 30.
    pub retry_after: u64,
    /// Whether the monitor is named by its path alone (`routes.*.location`).
    pub relative: bool,
}

/// The 202 of an acceptance, with the document unless minimal.
pub fn accepted(document: &Document, acceptance: AcceptedReply<'_>) -> Response {
    let mut response = if acceptance.minimal {
        response::empty(StatusCode::ACCEPTED)
    } else {
        response::json(StatusCode::ACCEPTED, response::DOCUMENT_TYPE, document)
    };
    let headers = response.headers_mut();
    point_to_monitor(headers, document, acceptance.pointer);
    response::set(headers, CONTENT_LOCATION, named(document, acceptance.pointer));
    if let Some(applied) = acceptance.applied {
        response::set(headers, response::PREFERENCE_APPLIED, applied);
    }
    response
}

/// The 202 of an operation that is still pending.
pub fn still(document: &Document, pointer: MonitorPointer) -> Response {
    let mut response = response::json(StatusCode::ACCEPTED, response::DOCUMENT_TYPE, document);
    let headers = response.headers_mut();
    point_to_monitor(headers, document, pointer);
    response::set(headers, response::X_PROGRESS, progress(document));
    response
}

/// `Location`, `Operation-Location`, `Operation-Id`, `Retry-After`.
pub fn point_to_monitor(headers: &mut HeaderMap, document: &Document, pointer: MonitorPointer) {
    response::set(headers, LOCATION, named(document, pointer));
    response::set(headers, response::OPERATION_LOCATION, &document.links.status);
    response::set(headers, response::OPERATION_ID, &document.id);
    ask_again(headers, pointer.retry_after);
}

/// `Retry-After`.
pub fn ask_again(headers: &mut HeaderMap, seconds: u64) {
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds.clamp(1, 30)));
}

/// The monitor's URL, or the path in it.
fn named(document: &Document, pointer: MonitorPointer) -> &str {
    let url = document.links.monitor.as_str();
    let authority = if pointer.relative { url.find("://").map(|at| at + 3) } else { None };
    let path = authority.and_then(|start| Some(start + url[start..].find('/')?));
    path.map_or(url, |at| &url[at..])
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
