//! The narration of the demo: how it prints requests, answers and explanations.

use anstyle::{AnsiColor, Style};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use serde_json::Value;

use super::super::failure::CommandError;
use super::super::print::{plain, say};

const HEADING: Style = Style::new().bold();
const SENT: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Yellow.on_default();
const QUIET: Style = Style::new().dimmed();

/// The fields that matter in this conversation, as they are spelled for people.
const FIELDS: [&str; 8] = [
    "Content-Type",
    "Prefer",
    "Location",
    "Operation-Id",
    "Retry-After",
    "X-Progress",
    "Upstream-Status",
    "Gateway-Origin",
];

/// The members that matter in the document of an operation or a subscription.
const MEMBERS: [&str; 8] = [
    "id",
    "status",
    "attempts",
    "percentComplete",
    "responseStatus",
    "createdLocation",
    "error",
    "secret",
];

/// Says what comes next.
pub(super) fn heading(text: &str) -> Result<(), CommandError> {
    say(&format!("\n{HEADING}{text}{HEADING:#}"))
}

/// Explains.
pub(super) fn explain(text: &str) -> Result<(), CommandError> {
    say(text)
}

/// Mentions something on the side.
pub(super) fn aside(text: &str) -> Result<(), CommandError> {
    say(&format!("{QUIET}  ({text}){QUIET:#}"))
}

/// Shows a request.
pub(super) fn request(request: &Request<Bytes>) -> Result<(), CommandError> {
    let target = request.uri().path_and_query().map_or("/", |path| path.as_str());
    say(&format!("\n{SENT}--> {} {target}{SENT:#}", request.method()))?;
    rest(request.headers(), request.body())
}

/// Shows an answer.
pub(super) fn response(response: &Response<Bytes>) -> Result<(), CommandError> {
    let status = response.status();
    let colour = if status.as_u16() < 400 { GOOD } else { BAD };
    say(&format!("{colour}<-- {status}{colour:#}"))?;
    rest(response.headers(), response.body())
}

/// Shows a webhook that arrived: what its receiver thinks of it, and what it tells of.
pub(super) fn delivery(told: &str, data: &Value) -> Result<(), CommandError> {
    say(&format!("\n{SENT}~~> webhook{SENT:#}"))?;
    say(&told
        .lines()
        .map(|line| format!("    {}", line.trim_start()))
        .collect::<Vec<_>>()
        .join("\n"))?;
    say(&format!("    {}", shown(data.to_string().as_bytes())))
}

fn rest(fields: &HeaderMap, body: &[u8]) -> Result<(), CommandError> {
    for name in FIELDS {
        for value in fields.get_all(name) {
            let value = plain(&String::from_utf8_lossy(value.as_bytes()));
            say(&format!("    {name}: {value}"))?;
        }
    }
    if body.is_empty() { Ok(()) } else { say(&format!("    {}", shown(body))) }
}

/// A body in one line; of an operation's document, what matters here.
fn shown(body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(Value::Object(document)) if document.contains_key("links") => {
            let told = MEMBERS.iter().filter_map(|name| {
                let value = document.get(*name).filter(|value| !value.is_null())?;
                Some(format!("{:?}:{value}", *name))
            });
            format!("{{{}, ...}}", told.collect::<Vec<_>>().join(","))
        }
        Ok(value) => value.to_string(),
        Err(_) => plain(&String::from_utf8_lossy(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_document_only_what_matters_is_shown() {
        let document = br#"{"id":"0192","status":"queued","tags":[],"error":null,"links":{}}"#;
        assert_eq!(shown(document), r#"{"id":"0192","status":"queued", ...}"#);
    }

    #[test]
    fn other_bodies_are_shown_whole_and_harmless() {
        assert_eq!(shown(b"{\"order\": 1}\n"), r#"{"order":1}"#);
        assert!(!shown(b"a\x1b[2Jb").contains('\x1b'));
    }
}
