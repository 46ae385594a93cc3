//! The outcome of an attempt.

use std::time::Duration;

use http::Method;

use super::{Continuation, Doubt, ErrorCode, Request, UpstreamContact, Work};
use crate::http::retry_after::RetryAfter;

/// Whether any octet of an attempt may have reached the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendState {
    /// Certainly not one octet.
    Nothing,
    /// Perhaps; it cannot be known.
    Perhaps,
}

/// The outcome of an attempt, in the terms that decide the next state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer of the upstream's.
    Answered(UpstreamAnswer),
    /// An answer whose body exceeded the limit.
    TooLarge(UpstreamAnswer),
    /// No complete answer.
    Broken {
        /// Whether the upstream can have seen the request.
        sent: SendState,
        /// Why: unreachable, timeout or protocol.
        cause: ErrorCode,
    },
    /// An answer came, and cannot be read: the upstream has acted or refused, and which of them
    /// is unknown.
    Unreadable {
        /// Its status, where that can be read.
        status: Option<u16>,
    },
    /// The gateway stops, and the grace period is over.
    Interrupted {
        /// Whether the upstream can have seen the request.
        sent: SendState,
    },
    /// The owner died while it ran.
    Lost,
    /// The upstream was asked, and says that an earlier attempt took effect.
    TookEffect {
        /// The status with which it said so.
        status: u16,
    },
    /// No complete answer; but the upstream was asked, and says that nothing took effect.
    Refuted {
        /// What left it open: no answer (unreachable, timeout, protocol), or an ambiguous one.
        cause: ErrorCode,
        /// The status with which it said so.
        status: u16,
        /// The status of the answer that left it open, where there was one.
        answered: Option<u16>,
    },
    /// The upstream was asked before another attempt, and did not say whether the one
    /// that was lost took effect.
    Unclear {
        /// The status with which it did not say so, where it answered.
        status: Option<u16>,
    },
    /// The client asked for it to be called off, and the connection was dropped.
    Canceled {
        /// Whether the upstream can have seen the request.
        sent: SendState,
    },
    /// The deadline had passed before the attempt began.
    Expired,
    /// The upstream is no longer configured.
    Unroutable,
    /// The upstream's own monitor says that it is not done, or could not be asked.
    StillPending {
        /// When to ask again, as the upstream wishes.
        retry_after: Option<Duration>,
    },
    /// One of the gateway's own jobs goes on later, or the upstream has named another
    /// monitor of the same work.
    Unfinished {
        /// From where.
        continuation: Continuation,
        /// When, as the upstream wishes.
        retry_after: Option<Duration>,
    },
    /// A 202 that names a monitor which may not be followed, so that the end of the work
    /// cannot be known.
    NotFollowed,
    /// The upstream accepted the request, and how its own work ends cannot be learned any more.
    NoEnd {
        /// Why not: the deadline has passed, or the upstream is no longer configured.
        cause: ErrorCode,
    },
    /// The upstream's own monitor has the final answer, or a job of the gateway's is done.
    Followed(UpstreamAnswer),
}

impl Outcome {
    /// What the upstream has had of the operation once this came of an attempt.
    pub fn contact_after(&self, before: UpstreamContact) -> UpstreamContact {
        let this = match self {
            // Whatever it had before, it says that nothing came of it.
            Self::Refuted { .. } => return UpstreamContact::Answered,
            Self::Answered(answer) | Self::TooLarge(answer) | Self::Followed(answer)
                if answer.leaves_open() =>
            {
                UpstreamContact::Lost
            }
            Self::Answered(_)
            | Self::TooLarge(_)
            | Self::Followed(_)
            | Self::StillPending { .. }
            | Self::NotFollowed
            | Self::Unfinished { .. } => UpstreamContact::Answered,
            Self::Broken { sent, .. } | Self::Interrupted { sent } | Self::Canceled { sent } => {
                match sent {
                    SendState::Nothing => UpstreamContact::Nothing,
                    SendState::Perhaps => UpstreamContact::Lost,
                }
            }
            Self::Lost | Self::Unreadable { .. } | Self::NoEnd { .. } => UpstreamContact::Lost,
            Self::TookEffect { .. } | Self::Unclear { .. } | Self::Expired | Self::Unroutable => {
                UpstreamContact::Nothing
            }
        };
        before.max(this)
    }
}

/// The parts of an upstream's answer that the decision needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAnswer {
    /// The status code.
    pub status: u16,
    /// When it says to try again.
    pub retry_after: RetryAfter,
    /// Whether it leaves open if the upstream acted: a proxy in between gave up waiting, or
    /// another gateway does not know.
    pub doubt: Doubt,
    /// Whether the request was sent twice before it came: first on a connection that had carried
    /// another one and ended without an octet of an answer.
    pub repeated: bool,
    /// Whether it redirects to the very place that was asked, by a scheme that nothing named: the
    /// upstream wants TLS, and did nothing.
    pub by_scheme: bool,
    /// Whether it answers a question to the upstream's monitor, not the request.
    pub of_monitor: bool,
    /// On a 202: how the upstream's monitor is followed, where it may be.
    pub monitor: Option<Continuation>,
}

impl UpstreamAnswer {
    /// An answer of which the status says all.
    pub const fn plain(status: u16) -> Self {
        Self {
            status,
            retry_after: RetryAfter::Absent,
            doubt: Doubt::None,
            repeated: false,
            by_scheme: false,
            of_monitor: false,
            monitor: None,
        }
    }

    /// The last answer of the upstream's monitor, whose own word it is.
    #[must_use]
    pub fn from_monitor(self) -> Self {
        Self { of_monitor: true, doubt: self.doubt.or(Doubt::of_monitor(self.status)), ..self }
    }

    /// What a failure with it comes from. A 424 stands for a failure that a document told.
    pub const fn cause(&self) -> ErrorCode {
        let is_of_monitor = self.of_monitor && self.status != 424;
        if is_of_monitor { ErrorCode::MonitorStatus } else { ErrorCode::UpstreamStatus }
    }

    /// Whether the upstream may have carried out the request, or an earlier sending of it, though
    /// the answer does not say so.
    fn leaves_open(&self) -> bool {
        self.doubt != Doubt::None || self.repeated
    }

    /// Whether the upstream says that it did nothing with the request, and to come again.
    pub const fn is_refusal(&self) -> bool {
        matches!(self.status, 425 | 429) || (self.status == 503 && self.retry_after.is_given())
    }
}

/// Whether a status in which an upstream's monitor ends means that the work succeeded: its 303
/// names what came of it, whatever the method was.
pub(super) const fn is_success_of_a_monitor(status: u16) -> bool {
    matches!(status, 200..=299 | 302 | 303)
}

/// The purpose of a request, as far as it decides the meaning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPurpose {
    /// The method.
    pub method: Method,
    /// Whether it is to be carried out only where a condition holds (`If-Match`, …).
    pub conditional: bool,
}

impl RequestPurpose {
    /// That of an operation's work.
    pub fn of(work: &Work) -> Self {
        match work {
            Work::Call(request) => Self::of_request(request),
            Work::Task { .. } => Self { method: Method::POST, conditional: false },
        }
    }

    fn of_request(request: &Request) -> Self {
        let conditions = ["if-match", "if-none-match", "if-unmodified-since", "if-modified-since"];
        let given = |name: &&'static str| request.fields.as_map().contains_key(*name);
        Self { method: request.method.clone(), conditional: conditions.iter().any(given) }
    }

    /// Whether an answer with that status means that the upstream carried it out.
    pub fn is_met_by(&self, status: u16) -> bool {
        matches!(status, 200..=299) || self.is_redirected_by(status)
    }

    /// Whether the `Location` of an answer with that status names what it created.
    pub fn creates_by(&self, status: u16) -> bool {
        status == 201 || self.is_redirected_by(status)
    }

    // A 301 moves the place that the request was for, and says nothing of the request.
    fn is_redirected_by(&self, status: u16) -> bool {
        self.method == Method::POST && matches!(status, 302 | 303)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_a_request_out_and_what_creates() {
        for (method, status, met, creates) in [
            (Method::POST, 200, true, false),
            (Method::POST, 201, true, true),
            (Method::PUT, 201, true, true),
            (Method::POST, 302, true, true),
            (Method::POST, 303, true, true),
            (Method::PUT, 303, false, false),
            (Method::POST, 301, false, false),
            (Method::POST, 307, false, false),
            (Method::POST, 404, false, false),
        ] {
            let purpose = RequestPurpose { method, conditional: false };
            assert_eq!(purpose.is_met_by(status), met, "{purpose:?} {status}");
            assert_eq!(purpose.creates_by(status), creates, "{purpose:?} {status}");
        }
    }
}
