//! `cloakroom ops show`: an operation's document, and its timeline.

use clap::Args;
use serde_json::{Value, json};

use super::super::admin::AdminClient;
use super::super::failure::CommandError;
use super::super::print;
use super::{OperationArg, may_have_happened};

const EXAMPLES: &str = "\
Examples:
  cloakroom ops show 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a
  cloakroom ops show https://api.example.com/-/operations/TICKET --json";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    which: OperationArg,
}

impl ShowArgs {
    /// Prints both.
    pub(super) async fn run(self, admin: &AdminClient, json: bool) -> Result<(), CommandError> {
        let document = admin.read(&self.which.id, "status").await?;
        let timeline = admin.read(&self.which.id, "events").await?;
        let events = timeline.get("events").cloned().unwrap_or(timeline);
        if json {
            return print::say_json(&json!({ "operation": document, "events": events }));
        }
        print::say(&print::table(["", ""], members(&document)))?;
        let rows: Vec<_> = events.as_array().into_iter().flatten().map(event).collect();
        if !rows.is_empty() {
            print::say("")?;
            print::say(&print::table(["WHEN", "WHAT", ""], rows))?;
        }
        next_step(&document)
    }
}

/// What can be done about a failure, on the side.
fn next_step(document: &Value) -> Result<(), CommandError> {
    let open = document["error"]["code"] == "outcome-unknown" && document["verdict"].is_null();
    match (document["status"].as_str(), document["id"].as_str()) {
        (Some("failed"), Some(id)) if open => print::complain(&format!(
            "\nfind out at the upstream whether it happened, then: cloakroom ops verdict {0} \
             --happened or --did-not-happen\nto send it again with the same key: cloakroom ops \
             retry {0}",
            print::plain(id)
        )),
        (Some("failed"), Some(id)) if may_have_happened(document) => print::complain(&format!(
            "\nfind out at the upstream whether it happened; only if it did not, send it again with \
             the same key: cloakroom ops retry {}",
            print::plain(id)
        )),
        (Some("failed"), Some(id)) => print::complain(&format!(
            "\nto send it again with the same key: cloakroom ops retry {}",
            print::plain(id)
        )),
        _ => Ok(()),
    }
}

/// What a document says, a line each; what it does not say is left out.
fn members(document: &Value) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    if let Value::Object(members) = document {
        for (name, value) in members {
            flatten(name, value, &mut rows);
        }
    }
    rows
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    match value {
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Object(members) => {
            for (inner, value) in members {
                flatten(&format!("{name}.{inner}"), value, rows);
            }
        }
        _ => rows.push([name.to_owned(), text(value)]),
    }
}

/// An event: when, what, and everything else that it says.
fn event(event: &Value) -> [String; 3] {
    let pick = |names: [&'static str; 3]| names.into_iter().find(|name| event[*name].is_string());
    let when = pick(["timestamp", "at", "time"]);
    let what = pick(["type", "event", "kind"]);
    let rest = members(event).into_iter().filter(|[name, _]| {
        Some(name.as_str()) != when && Some(name.as_str()) != what && name != "sequence"
    });
    let rest: Vec<_> = rest.map(|[name, value]| format!("{name}={value}")).collect();
    let told = |name: Option<&str>| name.map(|name| text(&event[name])).unwrap_or_default();
    [told(when), told(what), rest.join(" ")]
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_told_line_by_line_without_what_is_unknown() {
        let document = json!({ "id": "0192", "error": { "code": "upstream-timeout", "cause": null },
            "tags": ["a:1", "b:2"], "verdict": null, "attempts": 2 });
        let rows = members(&document);
        let row = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
        assert_eq!(
            rows,
            [
                row("id", "0192"),
                row("error.code", "upstream-timeout"),
                row("tags", "a:1, b:2"),
                row("attempts", "2"),
            ]
        );
    }

    #[test]
    fn an_event_is_told_by_when_and_what_first() {
        let told = event(&json!({ "sequence": 3, "type": "retried", "attempt": 2,
            "timestamp": "2026-11-21T08:00:00Z" }));
        assert_eq!(told, ["2026-11-21T08:00:00Z", "retried", "attempt=2"]);
    }
}
