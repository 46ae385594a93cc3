//! `POST …/{id}/verdict`, for operators: records the true outcome of an operation whose outcome
//! is unknown.
//!
//! The state stays as it is. A later verdict takes the place of an earlier one; the
//! timeline keeps both.

use axum::response::Response;
use http::StatusCode;

use super::extract::{NO_OPERATION, OperationPath, ticket};
use super::json_object::{JsonObject, TOO_LARGE};
use super::openapi::{Description, ResponseDoc, Tag};
use super::{Problem, response};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Verdict;
use cloakroom_ledger::Judged;
use serde_json::{Value, json};

const KNOWN: [&str; 3] = ["outcome", "location", "note"];

pub(super) async fn give(found: OperationPath, members: JsonObject) -> Result<Response, Problem> {
    let api = &found.context.api;
    let verdict = read(members, api.clock.now())?;
    found.may_be_changed()?;
    match api.ledger.judge(found.operation.id, verdict).await? {
        Judged::Given => {
            let found = found.again().await?;
            Ok(response::json(StatusCode::OK, response::DOCUMENT_TYPE, &found.document()))
        }
        Judged::NotUnknown => Err(Problem::not_unknown()),
    }
}

fn read(mut members: JsonObject, at: Timestamp) -> Result<Verdict, Problem> {
    let form =
        "write {\"outcome\": \"happened\" or \"did-not-happen\", \"location\": …, \"note\": …}";
    members.only(&KNOWN)?;
    let happened = match members.text("outcome")?.present().as_deref() {
        Some("happened") => true,
        Some("did-not-happen") => false,
        _ => return Err(Problem::malformed_body(Some("outcome"), form)),
    };
    let (location, note) = (members.text("location")?.present(), members.text("note")?.present());
    if let Some(location) = &location {
        let web = ["http://", "https://", "/"].iter().any(|start| location.starts_with(start));
        let plain = location.len() <= 2048 && location.chars().all(|c| c.is_ascii_graphic());
        if !web || location.starts_with("//") || !plain {
            let detail = "a location is an absolute http or https URL, or a path";
            return Err(Problem::malformed_body(Some("location"), detail));
        }
    }
    if location.is_some() && !happened {
        let detail = "what did not happen has created nothing: leave the location out";
        return Err(Problem::malformed_body(Some("location"), detail));
    }
    if note.as_ref().is_some_and(|note| note.chars().count() > Verdict::LONGEST_NOTE) {
        let detail = format!("a note has at most {} characters", Verdict::LONGEST_NOTE);
        return Err(Problem::malformed_body(Some("note"), detail));
    }
    Ok(Verdict { happened, location, note, at })
}

pub(super) fn description() -> Description {
    let summary = "Record what was found out about an unknown outcome";
    Description::new(Tag::Operations, "giveVerdict", summary)
        .at([ticket()])
        .takes_json(true, schema())
        .replies(200, ResponseDoc::document("Written down; a former one is replaced."))
        .conditional()
        .refuses(&[NO_OPERATION, (409, "The outcome is not unknown."), TOO_LARGE])
}

/// A verdict, as a schema.
fn schema() -> Value {
    let note = json!({ "type": ["string", "null"], "maxLength": 1000 });
    let location = json!({
        "type": ["string", "null"],
        "maxLength": 2048,
        "pattern": r"^(https?://[!-~]*|/([!-.0-~][!-~]*)?)$",
        "description": "What the upstream created: an absolute URL or a path.",
    });
    let form = |outcome: &str, location: Value| {
        json!({
            "type": "object",
            "required": ["outcome"],
            "additionalProperties": false,
            "properties": { "outcome": { "const": outcome }, "location": location, "note": note },
        })
    };
    let nowhere = json!({ "type": "null" });
    json!({ "oneOf": [form("happened", location), form("did-not-happen", nowhere)] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_which_and_names_what_was_created() {
        let read = |text: &str| super::read(JsonObject::read(text.as_bytes())?, Timestamp::EPOCH);
        let verdict = read(r#"{"outcome":"happened","location":"/orders/7","note":"seen"}"#);
        let verdict = verdict.unwrap();
        assert!(verdict.happened && verdict.location.as_deref() == Some("/orders/7"));
        for wrong in [
            "",
            "{}",
            r#"{"outcome":"maybe"}"#,
            r#"{"outcome":"happened","location":"javascript:alert(1)"}"#,
            r#"{"outcome":"happened","location":"//evil.example"}"#,
            r#"{"outcome":"did-not-happen","location":"/orders/7"}"#,
            r#"{"outcome":"happened","by":"me"}"#,
            r#"{"outcome":"happened","outcome":"did-not-happen"}"#,
        ] {
            assert_eq!(read(wrong).unwrap_err().status(), 400, "{wrong}");
        }
    }
}
