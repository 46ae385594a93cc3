//! What came of an attempt.

use std::time::Duration;

use super::{Continuation, ErrorCode};

/// Whether the upstream can have seen anything of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Certainly not one octet.
    Nothing,
    /// Perhaps; nobody can know.
    Perhaps,
}

/// What came of an attempt, in the terms that decide what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete answer of the upstream's.
    Answered(Answer),
    /// An answer whose body exceeded the limit.
    TooLarge(Answer),
    /// No complete answer.
    Broken {
        /// Whether the upstream can have seen the request.
        sent: Sent,
        /// Why: unreachable, timeout or protocol.
        cause: ErrorCode,
    },
    /// The gateway stops, and the grace period is over.
    Interrupted {
        /// Whether the upstream can have seen the request.
        sent: Sent,
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
        /// Why there was no answer: unreachable, timeout or protocol.
        cause: ErrorCode,
    },
    /// The upstream was asked before another attempt, and did not say whether the one
    /// that was lost took effect.
    Unclear {
        /// The status with which it did not say so, where it answered.
        status: Option<u16>,
    },
    /// The client asked for it to be called off, and the connection was dropped.
    Canceled,
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
    /// The upstream's own monitor has the final answer, or a job of the gateway's is done.
    Followed(Answer),
}

/// What counts of an upstream's answer when deciding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Whether a 301, 302 or 303 means success: the request was a POST.
    pub redirect_is_success: bool,
    /// `Retry-After`, as a time from now.
    pub retry_after: Option<Duration>,
    /// On a 202: how the upstream's monitor is followed, where it may be.
    pub monitor: Option<Continuation>,
}

impl Answer {
    /// Whether the upstream carried the request out.
    pub fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
            || (self.redirect_is_success && matches!(self.status, 301..=303))
    }
}
