//! The failure codes of operations: a closed list, with messages that say what to do.

use std::fmt;
use std::str::FromStr;

/// The code of a failure, stable for programs to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The upstream answered with a status that is no success.
    UpstreamStatus,
    /// No connection to the upstream came about.
    UpstreamUnreachable,
    /// The upstream did not answer within the attempt's time.
    UpstreamTimeout,
    /// The upstream redirected somewhere that is not followed.
    UpstreamRedirect,
    /// The upstream broke off, or what it sent is not HTTP.
    UpstreamProtocol,
    /// The upstream's answer exceeded the limit.
    ResponseTooLarge,
    /// The upstream may or may not have carried the request out.
    OutcomeUnknown,
    /// A former attempt, whose answer was lost, may have carried the request out.
    MayHaveSucceeded,
    /// Every attempt that the route allows was made.
    AttemptsExhausted,
    /// The gateway died too often while it carried this out.
    RescuesExhausted,
    /// The deadline passed first.
    DeadlineExceeded,
    /// The configuration no longer has the route's upstream.
    RouteRemoved,
    /// What the ledger keeps of it is damaged.
    Unreadable,
    /// The gateway stopped while the request was on the wire. Only ever a cause.
    Shutdown,
    /// The gateway died while the request was on the wire. Only ever a cause.
    OwnerLost,
    /// The upstream accepted the request and named a monitor that may not be followed. Only
    /// ever a cause.
    MonitorNotFollowed,
    /// The monitor of accepted work answered the gateway's question with a client error. Only ever a
    /// cause.
    MonitorStatus,
}

impl ErrorCode {
    const ALL: [Self; 17] = [
        Self::UpstreamStatus,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::UpstreamRedirect,
        Self::UpstreamProtocol,
        Self::ResponseTooLarge,
        Self::OutcomeUnknown,
        Self::MayHaveSucceeded,
        Self::AttemptsExhausted,
        Self::RescuesExhausted,
        Self::DeadlineExceeded,
        Self::RouteRemoved,
        Self::Unreadable,
        Self::Shutdown,
        Self::OwnerLost,
        Self::MonitorNotFollowed,
        Self::MonitorStatus,
    ];

    /// The code in documents and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamStatus => "upstream-status",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::UpstreamRedirect => "upstream-redirect",
            Self::UpstreamProtocol => "upstream-protocol",
            Self::ResponseTooLarge => "response-too-large",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::MayHaveSucceeded => "may-have-succeeded",
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::RescuesExhausted => "rescues-exhausted",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::RouteRemoved => "route-removed",
            Self::Unreadable => "unreadable",
            Self::Shutdown => "shutdown",
            Self::OwnerLost => "owner-lost",
            Self::MonitorNotFollowed => "monitor-not-followed",
            Self::MonitorStatus => "monitor-status",
        }
    }

    /// What happened, as the middle of a sentence.
    const fn story(self) -> &'static str {
        match self {
            Self::UpstreamStatus => "the upstream answered with an error status",
            Self::UpstreamUnreachable => "no connection to the upstream came about",
            Self::UpstreamTimeout => "the upstream did not answer in time",
            Self::UpstreamRedirect => "the upstream redirected to a place that is not followed",
            Self::UpstreamProtocol => "no complete answer in HTTP came before the connection ended",
            Self::ResponseTooLarge => "the upstream's answer was larger than the limit",
            Self::OutcomeUnknown => "it is unknown whether the upstream acted",
            Self::MayHaveSucceeded => "the upstream refused a repeat as if it had acted before",
            Self::AttemptsExhausted => "every attempt failed",
            Self::RescuesExhausted => "the gateway died each time it carried this out",
            Self::DeadlineExceeded => "the deadline passed",
            Self::RouteRemoved => "the upstream is no longer configured",
            Self::Unreadable => "what the ledger keeps of it cannot be read",
            Self::Shutdown => "the gateway was stopped while the request was on its way",
            Self::OwnerLost => "the gateway died while the request was on its way",
            Self::MonitorNotFollowed => {
                "the upstream answered 202 and named a monitor that may not be followed"
            }
            Self::MonitorStatus => "the upstream answered 202, and its monitor an error status",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown error code")]
pub struct UnknownErrorCode;

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(text: &str) -> Result<Self, UnknownErrorCode> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or(UnknownErrorCode)
    }
}

/// What to do about rows that cannot be read.
const DAMAGED: &str =
    "See in the gateway's log what is wrong with what it keeps, and check the disk";
/// What to do about an answer that cannot be read, behind a recheck that found nothing.
const UNREADABLE_ANSWER: &str =
    "See in the log what is wrong with the upstream's answer, then retry the operation.";
/// What to do about an upstream that cannot be reached.
const UNREACHABLE: &str = "See that the upstream is well, and that its url names a port that speaks \
    HTTP/1.1 and whether that is http or https; then retry the operation.";

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What programs act on.
    pub code: ErrorCode,
    /// What brought it about, where the code alone does not say.
    pub cause: Option<ErrorCode>,
    /// The status of the upstream's last answer, where there was one.
    pub status: Option<u16>,
}

impl Failure {
    /// A failure that its code explains.
    pub const fn of(code: ErrorCode) -> Self {
        Self { code, cause: None, status: None }
    }

    /// A failure with what brought it about.
    pub const fn caused(code: ErrorCode, cause: ErrorCode) -> Self {
        Self { code, cause: Some(cause), status: None }
    }

    /// The same failure after an answer with that status.
    #[must_use]
    pub const fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// For people: what happened and what to do next.
    pub fn message(&self) -> String {
        let happened = match (self.cause, self.status) {
            (_, Some(status)) if self.cause.unwrap_or(self.code) == ErrorCode::UpstreamStatus => {
                format!("the upstream answered {status}")
            }
            (Some(ErrorCode::MonitorStatus), Some(status)) => {
                format!("the upstream answered 202, and its monitor answered {status}")
            }
            (cause, Some(status)) if cause.unwrap_or(self.code) == ErrorCode::UpstreamProtocol => {
                format!("the upstream answered {status}, but the answer cannot be read")
            }
            (Some(cause), _) => cause.story().to_owned(),
            (None, _) => self.code.story().to_owned(),
        };
        match self.code {
            ErrorCode::UpstreamStatus => self.after_a_status(&happened),
            ErrorCode::OutcomeUnknown => self.of_an_unknown_outcome(&happened),
            ErrorCode::MayHaveSucceeded => format!(
                "{happened} to a later attempt, after the answer to a former one was lost: that one may have \
                 succeeded. Check with the upstream before the request is sent again."
            ),
            ErrorCode::AttemptsExhausted if self.cause == Some(ErrorCode::UpstreamUnreachable) => {
                format!("every attempt failed, the last because {happened}. {UNREACHABLE}")
            }
            ErrorCode::AttemptsExhausted if self.cause == Some(ErrorCode::Unreadable) => format!(
                "every attempt failed, the last because {happened}. {DAMAGED}; then send the request \
                 anew."
            ),
            ErrorCode::AttemptsExhausted if self.is_of_an_unreadable_answer() => format!(
                "every attempt failed, the last because {happened}; the recheck said that nothing was \
                 done. {UNREADABLE_ANSWER}"
            ),
            ErrorCode::AttemptsExhausted => format!(
                "every attempt failed, the last because {happened}. See that the upstream is well, then \
                 retry the operation."
            ),
            ErrorCode::DeadlineExceeded => self.after_the_deadline(&happened),
            ErrorCode::ResponseTooLarge if self.status.is_some_and(|status| status >= 400) => {
                let status = self.status.unwrap_or_default();
                format!(
                    "{happened}, so it was not kept; its status was {status}. See what went wrong at \
                     the upstream; to keep such answers, raise max_response on the upstream."
                )
            }
            ErrorCode::ResponseTooLarge => format!(
                "{happened}, so it was not kept; the upstream did act. Raise max_response on the upstream."
            ),
            ErrorCode::UpstreamRedirect => format!(
                "{happened}, so it was not carried out. Send the request to where the upstream points; or, if \
                 it points to itself by another scheme or host, correct upstreams.*.url, or have the \
                 upstream heed X-Forwarded-Proto."
            ),
            ErrorCode::RescuesExhausted => {
                "node after node died while it carried this out, the last ones while it ran alone, so \
                 it was given up before it takes more of them with it. See in the logs of those nodes, \
                 and of the upstream, what this request does; then retry the operation."
                    .to_owned()
            }
            ErrorCode::RouteRemoved if self.cause == Some(ErrorCode::OutcomeUnknown) => {
                "the upstream is no longer configured, and it is unknown whether it acted before. Check \
                 with the upstream before the request is sent again."
                    .to_owned()
            }
            ErrorCode::RouteRemoved => {
                format!("{happened}. Configure it again, then retry the operation.")
            }
            ErrorCode::Unreadable => format!(
                "{happened}, so it was not carried out any further. {DAMAGED}; then send the request anew."
            ),
            ErrorCode::UpstreamUnreachable => format!("{happened}. {UNREACHABLE}"),
            ErrorCode::UpstreamProtocol if self.is_of_an_unreadable_answer() => format!(
                "{happened}; the recheck said that nothing was done. {UNREADABLE_ANSWER}"
            ),
            _ => format!("{happened}. See that the upstream is well, then retry the operation."),
        }
    }

    /// Whether an answer came that cannot be read, and this is its status.
    fn is_of_an_unreadable_answer(&self) -> bool {
        self.cause.unwrap_or(self.code) == ErrorCode::UpstreamProtocol && self.status.is_some()
    }

    /// After an answer that is the end: what to do about it.
    fn after_a_status(&self, happened: &str) -> String {
        match self.status {
            // It is no word about the request, which the upstream accepted.
            _ if self.cause == Some(ErrorCode::MonitorStatus) => {
                format!(
                    "{happened}; that answer is at the result. See what failed there, and whether \
                     anything was done, before it is sent again."
                )
            }
            // What the upstream itself calls its own failure, no other request mends.
            Some(500..) => {
                format!(
                    "{happened}; its answer is at the result. See what went wrong there, then \
                     retry the operation."
                )
            }
            // The request is as it should be, and came at the wrong time.
            Some(408 | 425 | 429) => {
                format!("{happened}; its answer is at the result. Wait, then retry the operation.")
            }
            // Something behind the upstream failed, or its own job did.
            Some(424) => {
                format!(
                    "{happened}; its answer is at the result. See what failed there, and whether \
                     anything was done, before it is sent again."
                )
            }
            _ => {
                format!(
                    "{happened}; its answer is at the result. Correct the request and send it anew."
                )
            }
        }
    }

    /// After the deadline: whether anything may have been done, and what to do about it.
    fn after_the_deadline(&self, happened: &str) -> String {
        match self.cause {
            None => {
                "the deadline passed before an attempt succeeded. Retry it, or raise the route's \
                 deadline."
                    .to_owned()
            }
            Some(ErrorCode::OutcomeUnknown) => format!(
                "the deadline passed after the request was sent, and {happened}. Check with the upstream \
                 before it is sent again, or raise the route's deadline."
            ),
            Some(_) => format!(
                "the deadline passed before an attempt succeeded, the last because {happened}. See that \
                 the upstream is well, then retry the operation, or raise the route's deadline."
            ),
        }
    }

    /// Where the upstream may have acted: how to find out, and what spares the question.
    fn of_an_unknown_outcome(&self, happened: &str) -> String {
        match (self.cause, self.status) {
            (Some(ErrorCode::MonitorNotFollowed), _) => format!(
                "{happened}, so how its work ends is unknown. It was not sent again. Check with the \
                 upstream; then add the monitor's origin to follow in [upstreams.NAME], or set \
                 follow = false on the route if a 202 is the end there."
            ),
            (Some(ErrorCode::MonitorStatus), _) => format!(
                "{happened}, so how its work ended is unknown. It was not sent again. Check with the \
                 upstream, and see why its monitor does not tell; a recheck on the route asks by itself."
            ),
            (Some(ErrorCode::DeadlineExceeded), _) => {
                "the upstream answered 202, and its monitor had not said how the work ended when the \
                 deadline passed, so the upstream may or may not have acted. It was not sent again. Check \
                 with the upstream, and see in the log what its monitor answered; then correct \
                 upstreams.*.monitor or upstreams.*.headers, or raise the route's deadline; a recheck on \
                 the route asks by itself."
                    .to_owned()
            }
            (Some(ErrorCode::RouteRemoved), _) => {
                "the upstream answered 202 and is no longer configured, so how its work ends is unknown. \
                 It was not sent again. Check with the upstream; configure it before it is needed again."
                    .to_owned()
            }
            (Some(ErrorCode::UpstreamProtocol), Some(_)) => format!(
                "{happened}, so the upstream may or may not have acted, and it was not sent again. Check \
                 with the upstream, and see in the log what is wrong with its answer; a recheck on the \
                 route asks by itself."
            ),
            // Something may have come that was no answer, and is not repeated either.
            (Some(ErrorCode::UpstreamProtocol), None) => {
                format!(
                    "{happened}, so the upstream may or may not have acted, and it was not sent again. \
                     Check with the upstream, and see in the log what came; if repeating is safe there, \
                     set delivery = \"at-least-once\" on the route, which repeats what got no answer at all."
                )
            }
            (_, Some(424)) => format!(
                "{happened}: another gateway on the way does not know whether the upstream acted. It was \
                 not sent again. Check with the upstream; a recheck on the route asks by itself."
            ),
            (_, Some(_)) => format!(
                "{happened}, which a proxy in between may have said, so the upstream may or may not have \
                 acted. It was not sent again, because this route delivers at most once. Check with the \
                 upstream; if that status always means there that nothing was done, list it in the \
                 upstream's unprocessed; if repeating is safe there, set delivery = \"at-least-once\" on \
                 the route."
            ),
            (_, None) => format!(
                "{happened}, so the upstream may or may not have acted. It was not sent again, because \
                 this route delivers at most once. Check with the upstream; if repeating is safe there, \
                 set delivery = \"at-least-once\" on the route."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_names_the_setting_that_would_repeat_it() {
        let message =
            Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::UpstreamTimeout).message();
        assert!(message.contains("delivery = \"at-least-once\""), "{message}");
        assert!(message.contains("did not answer in time"), "{message}");
    }

    #[test]
    fn an_unknown_outcome_never_says_to_retry() {
        let unknown = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::UpstreamStatus);
        let others = ErrorCode::ALL.map(|cause| Failure::caused(ErrorCode::OutcomeUnknown, cause));
        for failure in others.into_iter().chain([unknown.clone(), unknown.with_status(502)]) {
            let message = failure.message();
            assert!(!message.to_lowercase().contains("retry"), "{message}");
            let accepted = [
                ErrorCode::MonitorNotFollowed,
                ErrorCode::MonitorStatus,
                ErrorCode::DeadlineExceeded,
                ErrorCode::RouteRemoved,
            ];
            let repeats = failure.cause.is_none_or(|cause| !accepted.contains(&cause));
            assert_eq!(message.contains("delivery = \"at-least-once\""), repeats, "{message}");
        }
    }

    #[test]
    fn a_redirect_that_is_not_followed_names_what_corrects_it() {
        let message = Failure::of(ErrorCode::UpstreamRedirect).with_status(301).message();
        assert!(message.contains("upstreams.*.url"), "{message}");
        assert!(message.contains("X-Forwarded-Proto"), "{message}");
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_told_with_its_status() {
        let unknown = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::UpstreamProtocol);
        let message = unknown.with_status(200).message();
        assert!(message.contains("answered 200, but the answer cannot be read"), "{message}");
        assert!(!message.contains("retry") && !message.contains("at most once"), "{message}");
    }

    #[test]
    fn an_answer_of_a_monitor_is_no_word_about_the_request() {
        let failed = Failure::caused(ErrorCode::UpstreamStatus, ErrorCode::MonitorStatus);
        for status in [400, 402, 408, 409, 422, 429] {
            let message = failed.clone().with_status(status).message();
            assert!(message.contains(&format!("its monitor answered {status}")), "{message}");
            assert!(message.contains("whether anything was done, before it is sent"), "{message}");
            assert!(!message.contains("anew") && !message.contains("retry"), "{message}");
        }
        let unknown = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::MonitorStatus);
        let message = unknown.with_status(410).message();
        assert!(message.contains("its monitor answered 410"), "{message}");
        assert!(!message.contains("proxy") && !message.contains("unprocessed"), "{message}");
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_told_in_the_same_words_behind_a_recheck() {
        for failure in [
            Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::UpstreamProtocol),
            Failure::caused(ErrorCode::AttemptsExhausted, ErrorCode::UpstreamProtocol),
            Failure::caused(ErrorCode::DeadlineExceeded, ErrorCode::UpstreamProtocol),
            Failure::of(ErrorCode::UpstreamProtocol),
        ] {
            let message = failure.with_status(201).message();
            assert!(message.contains("answered 201, but the answer cannot be read"), "{message}");
        }
    }

    #[test]
    fn what_came_at_the_wrong_time_is_not_to_be_corrected() {
        for (status, advice) in [
            (400, "Correct the request"),
            (424, "before it is sent again"),
            (409, "Correct the request"),
            (408, "Wait, then retry"),
            (425, "Wait, then retry"),
            (429, "Wait, then retry"),
            (503, "See what went wrong there"),
        ] {
            let message = Failure::of(ErrorCode::UpstreamStatus).with_status(status).message();
            assert!(message.contains(advice), "{status}: {message}");
        }
    }

    #[test]
    fn an_answer_that_was_too_large_says_that_the_upstream_acted_only_where_it_did() {
        let message =
            |status| Failure::of(ErrorCode::ResponseTooLarge).with_status(status).message();
        assert!(message(201).contains("did act"));
        for status in [400, 502] {
            let message = message(status);
            assert!(!message.contains("did act"), "{message}");
            assert!(message.contains(&status.to_string()), "{message}");
        }
    }

    #[test]
    fn every_message_goes_on_to_what_to_do() {
        let advice = ["retry", "correct", "raise", "set ", "send the request", "check"];
        for code in ErrorCode::ALL {
            let message = Failure::of(code).message().to_lowercase();
            let (_, rest) = message.split_once([';', '.']).unwrap();
            assert!(advice.iter().any(|word| rest.contains(word)), "{code}: {message}");
        }
    }

    #[test]
    fn codes_are_read_back_as_they_are_written() {
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
        }
    }
}
