//! Ambiguous answers: they leave open whether the upstream acted.
//!
//! Owns the statuses that intermediate proxies send themselves, and what another gateway behind this
//! one sends in place of a service's answer. It must not know how an answer was received.

use serde_json::Value;

use super::DeliveryGuarantee;

/// Whether an answer leaves open if the upstream acted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// It says so itself.
    #[default]
    None,
    /// The one that answered gave up waiting: a repeat may bring the service's own answer.
    Passing,
    /// Another gateway has recorded that it does not know, and a repeat brings that once more; or the
    /// work was accepted, and its monitor does not tell of it.
    Lasting,
}

/// Whether a status may come from a proxy in between that does not know what became of the
/// request it passed on: RFC 9110 sections 15.6.3 and 15.6.5, and what content delivery networks
/// add to them. A 522 also tells of an origin that did not confirm what it was sent.
pub const fn is_ambiguous(status: u16) -> bool {
    matches!(status, 502 | 504 | 520 | 522 | 524 | 527)
}

/// Whether a status is how proxies tell that they have no answer of the service: one that is
/// ambiguous, or one of content delivery networks that did not reach it (521 refused, 523 without
/// a way, 525 and 526 without TLS, 530 without an address).
pub const fn is_of_a_proxy(status: u16) -> bool {
    is_ambiguous(status) || matches!(status, 521 | 523 | 525 | 526 | 530)
}

/// Whether a status, at the monitor of accepted work, speaks of the monitor or of the question alone:
/// the work may have ended in any way, or go on.
const fn tells_nothing_of_work(status: u16) -> bool {
    matches!(
        status,
        404..=406 | 410..=412 | 414 | 416 | 417 | 421 | 426 | 428 | 431 | 451
    )
}

/// What codes and causes of a failure leave open what became of a request.
const OPEN: [&str; 7] = [
    "outcome-unknown",
    "may-have-succeeded",
    "upstream-timeout",
    "upstream-protocol",
    "rescues-exhausted",
    "owner-lost",
    "shutdown",
];

/// The status of the service's answer that another gateway's document of an operation tells.
pub fn told_status(document: &[u8]) -> Option<u16> {
    let document = serde_json::from_slice::<Value>(document).ok()?;
    document["responseStatus"].as_u64()?.try_into().ok()
}

impl Doubt {
    /// What a status alone leaves open.
    pub const fn of_status(status: u16) -> Self {
        if is_ambiguous(status) { Self::Passing } else { Self::None }
    }

    /// What the last answer of an upstream's monitor leaves open by its status.
    pub const fn of_monitor(status: u16) -> Self {
        if tells_nothing_of_work(status) { Self::Lasting } else { Self::None }
    }

    /// What another gateway's problem, or its document of an operation, leaves open by its words.
    pub fn of_gateway(document: &[u8]) -> Self {
        let Ok(document) = serde_json::from_slice::<Value>(document) else { return Self::None };
        if document["type"] == "urn:cloakroom:problem:answer-not-in-time" {
            return Self::Passing;
        }
        let told = [&document["code"], &document["cause"]];
        let within = [&document["error"]["code"], &document["error"]["cause"]];
        let mut words = told.into_iter().chain(within).filter_map(Value::as_str);
        if words.any(|word| OPEN.contains(&word)) { Self::Lasting } else { Self::None }
    }

    /// This, where anything is open by it, else that.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::None { other } else { self }
    }

    /// Whether an operation that is delivered so ends with it as unknown.
    pub fn is_unknown(self, delivery: DeliveryGuarantee) -> bool {
        match self {
            Self::None => false,
            Self::Passing => delivery == DeliveryGuarantee::AtMostOnce,
            Self::Lasting => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_passed_a_request_on_and_got_no_answer_leaves_it_open() {
        for status in [502, 504, 520, 522, 524, 527] {
            assert!(is_ambiguous(status) && is_of_a_proxy(status), "{status}");
        }
        for status in [521, 523, 525, 526, 530] {
            assert!(!is_ambiguous(status) && is_of_a_proxy(status), "{status}");
        }
        for status in [200, 404, 408, 424, 500, 501, 503, 505, 519, 528, 529, 531, 599] {
            assert!(!is_ambiguous(status) && !is_of_a_proxy(status), "{status}");
        }
    }

    #[test]
    fn a_monitor_that_refuses_the_question_itself_tells_nothing_of_the_work() {
        for status in [404, 405, 406, 410, 414, 421, 431] {
            assert_eq!(Doubt::of_monitor(status), Doubt::Lasting, "{status}");
        }
        for status in [200, 303, 400, 402, 409, 413, 415, 418, 422, 423, 424] {
            assert_eq!(Doubt::of_monitor(status), Doubt::None, "{status}");
        }
    }

    #[test]
    fn another_gateway_says_in_its_problem_and_in_its_document_what_is_open() {
        for (document, doubt) in [
            (
                r#"{"type":"urn:cloakroom:problem:no-answer","code":"outcome-unknown"}"#,
                Doubt::Lasting,
            ),
            (
                r#"{"type":"urn:cloakroom:problem:no-answer","code":"upstream-timeout"}"#,
                Doubt::Lasting,
            ),
            (r#"{"code":"attempts-exhausted","cause":"upstream-protocol"}"#, Doubt::Lasting),
            (r#"{"status":"failed","error":{"code":"outcome-unknown"}}"#, Doubt::Lasting),
            (r#"{"type":"urn:cloakroom:problem:answer-not-in-time"}"#, Doubt::Passing),
            (r#"{"code":"response-too-large","cause":null}"#, Doubt::None),
            (r#"{"code":"attempts-exhausted","cause":"upstream-unreachable"}"#, Doubt::None),
            (r#"{"status":"failed","error":{"code":"upstream-status","cause":null}}"#, Doubt::None),
            (r#"{"error":"outcome-unknown"}"#, Doubt::None),
            ("[]", Doubt::None),
            ("outcome-unknown", Doubt::None),
        ] {
            assert_eq!(Doubt::of_gateway(document.as_bytes()), doubt, "{document}");
        }
    }

    #[test]
    fn another_gateway_tells_in_its_document_which_status_it_has_recorded() {
        for (document, status) in [
            (r#"{"status":"failed","responseStatus":502}"#, Some(502)),
            (r#"{"status":"failed","responseStatus":null}"#, None),
            (r#"{"status":"failed","responseStatus":-1}"#, None),
            (r#"{"status":"failed","responseStatus":70000}"#, None),
            ("[]", None),
            ("502", None),
        ] {
            assert_eq!(told_status(document.as_bytes()), status, "{document}");
        }
    }

    #[test]
    fn what_a_repeat_may_clear_is_unknown_only_where_nothing_is_repeated() {
        use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};
        for (doubt, once, again) in [
            (Doubt::None, false, false),
            (Doubt::Passing, true, false),
            (Doubt::Lasting, true, true),
        ] {
            assert_eq!(doubt.is_unknown(AtMostOnce), once, "{doubt:?}");
            assert_eq!(doubt.is_unknown(AtLeastOnce), again, "{doubt:?}");
        }
    }
}
