//! How a delivery looks: for people, and for machines.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::super::print::plain;
use super::book::{Seen, Trusted};
use super::receiver::Answer;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const QUIET: Style = Style::new().dimmed();

/// Two lines for people.
pub(in crate::cli) fn text(seen: &Seen, answer: Answer) -> String {
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
    let got = match answer {
        Answer::Status(status) => format!("answered: {status}"),
        Answer::Dropped => "answered: dropped".to_owned(),
        Answer::HungUp(after) => {
            format!("not answered: the sender hung up after {:.1} s", after.as_secs_f64())
        }
        Answer::Ended => "not answered: listen ended".to_owned(),
    };
    format!(
        "{} {} {id}, sequence {}, {} bytes\n{QUIET}  {again}; {trust}{QUIET}; {got}{QUIET:#}",
        seen.at.rfc3339(),
        word("type"),
        word("sequence"),
        seen.length
    )
}

/// One line for machines.
pub(super) fn json(seen: &Seen, answer: Answer) -> Value {
    let (answered, hung_up) = match answer {
        Answer::Status(status) => (Some(status.as_u16()), None),
        Answer::HungUp(after) => (None, Some(after.as_secs_f64())),
        Answer::Dropped | Answer::Ended => (None, None),
    };
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
        "answered": answered,
        "hungUpAfterSeconds": hung_up,
        "body": seen.event,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use cloakroom_domain::Timestamp;
    use cloakroom_domain::delivery::signature::Unverified;

    fn seen(trust: Result<Trusted, Unverified>) -> Seen {
        Seen {
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
        let refused = Answer::Status(StatusCode::UNAUTHORIZED);
        let told = text(&seen(Err(Unverified::Wrong)), refused);
        assert!(told.contains("operation.failed") && told.contains("sequence 3"), "{told}");
        assert!(told.contains("time 2, 5.2 s after the last") && told.contains("another secret"));
        assert!(told.contains("401") && !told.contains("\x1b[2J"), "{told}");
        let dropped = text(&seen(Ok(Trusted::NotChecked)), Answer::Dropped);
        assert!(dropped.contains("not checked") && dropped.contains("dropped"), "{dropped}");
        let hung_up = Answer::HungUp(Duration::from_millis(15_020));
        let late = text(&seen(Ok(Trusted::Verified)), hung_up);
        assert!(late.contains("verified") && late.contains("hung up after 15.0 s"), "{late}");
    }

    #[test]
    fn a_machine_learns_the_same() {
        let told = json(&seen(Ok(Trusted::Verified)), Answer::Status(StatusCode::NO_CONTENT));
        assert_eq!((&told["verified"], &told["answered"]), (&json!(true), &json!(204)));
        assert_eq!((&told["times"], &told["sequence"]), (&json!(2), &json!(3)));
        assert_eq!(told["hungUpAfterSeconds"], Value::Null);
        let late = json(&seen(Ok(Trusted::NotChecked)), Answer::HungUp(Duration::from_secs(15)));
        assert_eq!((&late["verified"], &late["answered"]), (&Value::Null, &Value::Null));
        assert_eq!(late["hungUpAfterSeconds"], 15.0);
    }
}
