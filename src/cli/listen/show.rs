//! How a delivery looks: for people, and for machines.

use anstyle::{AnsiColor, Style};
use http::StatusCode;
use serde_json::{Value, json};

use super::super::print::plain;
use super::book::{Seen, Trusted};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const QUIET: Style = Style::new().dimmed();

/// Two lines for people.
pub(in crate::cli) fn text(seen: &Seen, answer: Option<StatusCode>) -> String {
    let word = |name: &str| match seen.member(name) {
        Some(Value::String(text)) => plain(text),
        Some(other) => plain(&other.to_string()),
        None => "-".to_owned(),
    };
    let id = seen.id.as_deref().map_or_else(|| "-".to_owned(), plain);
    let again = match seen.since {
        None => "first time".to_owned(),
        Some(since) => format!("time {}, {:.1} s after the last", seen.times, since.as_secs_f64()),
    };
    let trust = match &seen.trust {
        Ok(Trusted::Verified) => format!("{GOOD}verified{GOOD:#}"),
        Ok(Trusted::NotChecked) => "not checked".to_owned(),
        Err(why) => format!("{BAD}{why}{BAD:#}"),
    };
    let answered = answer.map_or_else(|| "dropped".to_owned(), |status| status.to_string());
    format!(
        "{} {} {id}, sequence {}, {} bytes\n{QUIET}  {again}; {trust}{QUIET}; answered: \
         {answered}{QUIET:#}",
        seen.at.rfc3339(),
        word("type"),
        word("sequence"),
        seen.length
    )
}

/// One line for machines.
pub(super) fn json(seen: &Seen, answer: Option<StatusCode>) -> Value {
    json!({
        "time": seen.at.rfc3339(),
        "id": seen.id,
        "type": seen.member("type"),
        "sequence": seen.member("sequence"),
        "times": seen.times,
        "secondsSinceLast": seen.since.map(|since| since.as_secs_f64()),
        "verified": match &seen.trust {
            Ok(Trusted::Verified) => Some(true),
            Ok(Trusted::NotChecked) => None,
            Err(_) => Some(false),
        },
        "why": seen.trust.as_ref().err().map(ToString::to_string),
        "answered": answer.map(|status| status.as_u16()),
        "body": seen.event,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::delivery::signature::Unverified;
    use std::time::Duration;

    fn seen(trust: Result<Trusted, Unverified>) -> Seen {
        Seen {
            number: 2,
            at: Timestamp::EPOCH,
            id: Some("msg_\x1b[2J".to_owned()),
            event: Some(json!({ "type": "operation.failed", "data": { "sequence": 3 } })),
            length: 49,
            times: 2,
            since: Some(Duration::from_millis(5_200)),
            trust,
        }
    }

    #[test]
    fn a_delivery_is_told_in_words_that_move_no_cursor() {
        let told = text(&seen(Err(Unverified::Wrong)), Some(StatusCode::UNAUTHORIZED));
        assert!(told.contains("operation.failed") && told.contains("sequence 3"), "{told}");
        assert!(told.contains("time 2, 5.2 s after the last") && told.contains("another secret"));
        assert!(told.contains("401") && !told.contains("\x1b[2J"), "{told}");
        let dropped = text(&seen(Ok(Trusted::NotChecked)), None);
        assert!(dropped.contains("not checked") && dropped.contains("dropped"), "{dropped}");
    }

    #[test]
    fn a_machine_learns_the_same() {
        let told = json(&seen(Ok(Trusted::Verified)), Some(StatusCode::NO_CONTENT));
        assert_eq!((&told["verified"], &told["answered"]), (&json!(true), &json!(204)));
        assert_eq!((&told["times"], &told["sequence"]), (&json!(2), &json!(3)));
        assert_eq!(json(&seen(Ok(Trusted::NotChecked)), None)["verified"], Value::Null);
    }
}
