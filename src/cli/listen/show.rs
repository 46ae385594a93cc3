//! The output of received deliveries, for people and for machines.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::super::print::plain;
use super::received_deliveries::{ReceivedDelivery, Verification};
use super::receiver::DeliveryResponse;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const QUIET: Style = Style::new().dimmed();

/// Two lines for people.
pub(in crate::cli) fn text(seen: &ReceivedDelivery, answer: DeliveryResponse) -> String {
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
        Ok(Verification::Verified) => format!("{GOOD}verified{GOOD:#}"),
        Ok(Verification::NotChecked) => "not checked".to_owned(),
        Err(why) => format!("{BAD}{why}{BAD:#}"),
    };
    let got = match answer {
        DeliveryResponse::Status(status) => format!("answered: {status}"),
        DeliveryResponse::Dropped => "answered: dropped".to_owned(),
        DeliveryResponse::HungUp(after) => {
            format!("not answered: the sender hung up after {:.1} s", after.as_secs_f64())
        }
        DeliveryResponse::Ended => "not answered: listen ended".to_owned(),
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
pub(super) fn json(seen: &ReceivedDelivery, answer: DeliveryResponse) -> Value {
    let (answered, hung_up) = match answer {
        DeliveryResponse::Status(status) => (Some(status.as_u16()), None),
        DeliveryResponse::HungUp(after) => (None, Some(after.as_secs_f64())),
        DeliveryResponse::Dropped | DeliveryResponse::Ended => (None, None),
    };
    json!({
        "time": seen.at.rfc3339(),
        "id": seen.id,
        "type": seen.member("type"),
        "sequence": seen.member("sequence"),
        "times": seen.times,
        "secondsSinceLast": seen.since.map(|since| since.as_secs_f64()),
        "verified": match &seen.trust {
            Ok(Verification::Verified) => Some(true),
            Ok(Verification::NotChecked) => None,
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
    use cloakroom_domain::webhooks::signature::VerificationError;

    fn seen(trust: Result<Verification, VerificationError>) -> ReceivedDelivery {
        ReceivedDelivery {
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
        let refused = DeliveryResponse::Status(StatusCode::UNAUTHORIZED);
        let told = text(&seen(Err(VerificationError::Wrong)), refused);
        assert!(told.contains("operation.failed") && told.contains("sequence 3"), "{told}");
        assert!(told.contains("time 2, 5.2 s after the last") && told.contains("another secret"));
        assert!(told.contains("401") && !told.contains("\x1b[2J"), "{told}");
        let dropped = text(&seen(Ok(Verification::NotChecked)), DeliveryResponse::Dropped);
        assert!(dropped.contains("not checked") && dropped.contains("dropped"), "{dropped}");
        let hung_up = DeliveryResponse::HungUp(Duration::from_millis(15_020));
        let late = text(&seen(Ok(Verification::Verified)), hung_up);
        assert!(late.contains("verified") && late.contains("hung up after 15.0 s"), "{late}");
    }

    #[test]
    fn a_machine_learns_the_same() {
        let told = json(
            &seen(Ok(Verification::Verified)),
            DeliveryResponse::Status(StatusCode::NO_CONTENT),
        );
        assert_eq!((&told["verified"], &told["answered"]), (&json!(true), &json!(204)));
        assert_eq!((&told["times"], &told["sequence"]), (&json!(2), &json!(3)));
        assert_eq!(told["hungUpAfterSeconds"], Value::Null);
        let late = json(
            &seen(Ok(Verification::NotChecked)),
            DeliveryResponse::HungUp(Duration::from_secs(15)),
        );
        assert_eq!((&late["verified"], &late["answered"]), (&Value::Null, &Value::Null));
        assert_eq!(late["hungUpAfterSeconds"], 15.0);
    }
}
