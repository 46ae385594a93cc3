//! `POST …/progress/{token}`: progress reports by the upstream.
//!
//! The token is the only credential, and serves the attempt that it was made for. What
//! is reported is for people to read; it decides nothing.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::extract::{ApiState, NAME, path_parameter, ticket};
use super::openapi::{Description, ResponseDoc, Tag, in_path};
use super::{Problem, json as strict_json, response};
use cloakroom_domain::OperationId;
use cloakroom_ledger::{ProgressReport, Progressed};

/// The longest report, in octets.
const LONGEST: usize = 16 * 1024;
/// The longest message that is kept, in characters.
const LONGEST_MESSAGE: usize = 200;

/// The attempt that a path names. The upstream has no credential of the ticket's owner, so
/// the token in the path is the only credential.
pub(super) struct ReportedAttempt {
    id: OperationId,
    attempt: u32,
}

impl FromRequestParts<ApiState> for ReportedAttempt {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        state: &ApiState,
    ) -> Result<Self, Problem> {
        let key = state.api.ledger.ticket_key();
        let ticket = path_parameter(parts, "ticket").await.unwrap_or_default();
        let token = path_parameter(parts, "token").await.unwrap_or_default();
        let id = key.open(&ticket).ok_or_else(Problem::no_such_operation)?;
        let attempt = key.open_progress_token(id, &token).ok_or_else(Problem::no_such_token)?;
        Ok(Self { id, attempt })
    }
}

pub(super) async fn report(
    State(state): State<ApiState>,
    attempt: ReportedAttempt,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let octets = to_bytes(request.into_body(), LONGEST)
        .await
        .map_err(|_| Problem::body_too_large(LONGEST as u64))?;
    let (percent, message) = read(&octets)?;
    let ReportedAttempt { id, attempt } = attempt;
    let report = ProgressReport { id, attempt, percent, message, at: state.api.clock.now() };
    match state.api.ledger.progress(report).await? {
        Progressed::Kept | Progressed::TooSoon => Ok(response::empty(StatusCode::NO_CONTENT)),
        Progressed::Over => Err(Problem::attempt_over()),
    }
}

type ReportBody = (Option<u8>, Option<String>);

fn read(octets: &[u8]) -> Result<ReportBody, Problem> {
    let form = "send a JSON object such as {\"percentComplete\":40,\"message\":\"four of ten\"}";
    let Value::Object(members) = strict_json::read(octets)? else {
        return Err(Problem::malformed_body(None, form));
    };
    let percent = match members.get("percentComplete") {
        None | Some(Value::Null) => None,
        Some(value) => Some(percent(value)?),
    };
    let message = match members.get("message") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(shown(text)),
        Some(_) => return Err(Problem::malformed_body(Some("message"), "message is a text")),
    };
    if percent.is_none() && message.is_none() {
        return Err(Problem::malformed_body(Some("percentComplete"), form));
    }
    Ok((percent, message))
}

fn percent(value: &Value) -> Result<u8, Problem> {
    let number = value.as_f64().filter(|number| (0.0..=100.0).contains(number));
    // Whole percents are kept; the part behind the point is dropped.
    number.map(|number| number as u8).ok_or_else(|| {
        let detail = "percentComplete is a number from 0 to 100";
        Problem::malformed_body(Some("percentComplete"), detail)
    })
}

/// On one line and not too long.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(LONGEST_MESSAGE).collect()
}

pub(super) fn description() -> Description {
    described("reportProgress").at([ticket(), in_path("token", "Serves one attempt.", NAME)])
}

/// The same under another id, for the callback of an upstream.
pub(super) fn described(id: &str) -> Description {
    Description::new(Tag::Operations, id, "Report the progress of an attempt")
        .takes(true, "Progress", schema())
        .replies(204, ResponseDoc::empty("Taken; at most one a second is kept."))
        .refuses(&[
            (404, "The token was not made for this operation."),
            (409, "The attempt is over."),
            (413, "The report is too large."),
        ])
        .open()
}

/// A report, as a schema.
fn schema() -> Value {
    json!({
        "type": "object",
        "anyOf": [{ "required": ["percentComplete"] }, { "required": ["message"] }],
        "properties": {
            "percentComplete": { "type": "number", "minimum": 0, "maximum": 100 },
            "message": { "type": "string", "description": "200 characters of it are kept." },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_percentage_or_a_message_or_both() {
        let of = |text: &str| read(text.as_bytes()).unwrap();
        assert_eq!(of(r#"{"percentComplete":40,"message":"m"}"#), (Some(40), Some("m".into())));
        assert_eq!(of(r#"{"percentComplete":33.9}"#), (Some(33), None));
        assert_eq!(of(r#"{"message":"m","else":1}"#), (None, Some("m".into())));
    }

    #[test]
    fn what_is_no_report_is_400() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            r#"{"percentComplete":"x"}"#,
            r#"{"percentComplete":101}"#,
            r#"{"percentComplete":-1}"#,
            r#"{"percentComplete":1e99}"#,
            r#"{"message":7}"#,
            r#"{"percentComplete":1,"percentComplete":2}"#,
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err().status(), 400, "{text}");
        }
    }

    #[test]
    fn a_message_is_cut_and_stays_on_one_line() {
        let (_, message) =
            read(format!("{{\"message\":\"a\\r\\nb{}\"}}", "é".repeat(300)).as_bytes()).unwrap();
        let message = message.unwrap();
        assert!(message.starts_with("a  bé"));
        assert_eq!(message.chars().count(), 200);
    }
}
