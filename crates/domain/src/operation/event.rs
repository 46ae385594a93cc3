//! The events of an operation, for its timeline and for subscribers.

use std::fmt;

use super::ErrorCode;
use crate::Timestamp;

/// The kind of a happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was accepted. Always the first of an operation's events.
    Accepted,
    /// An attempt began.
    Started,
    /// The upstream reported progress.
    Progressed,
    /// An attempt failed and another one is due.
    Retrying,
    /// It waits for something and holds no slot.
    Waiting,
    /// What it waited for is there: it is ready again.
    Released,
    /// An attempt was handed back by a gateway that stopped.
    Resumed,
    /// Its owner died; it was taken over.
    Rescued,
    /// The upstream was asked whether an earlier attempt took effect.
    Rechecked,
    /// A person found out about its unknown outcome.
    Reconciled,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was canceled.
    Canceled,
}

impl EventKind {
    const ALL: [Self; 13] = [
        Self::Accepted,
        Self::Started,
        Self::Progressed,
        Self::Retrying,
        Self::Waiting,
        Self::Released,
        Self::Resumed,
        Self::Rescued,
        Self::Rechecked,
        Self::Reconciled,
        Self::Succeeded,
        Self::Failed,
        Self::Canceled,
    ];

    /// The name after `operation.`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Started => "started",
            Self::Progressed => "progressed",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Released => "released",
            Self::Resumed => "resumed",
            Self::Rescued => "rescued",
            Self::Rechecked => "rechecked",
            Self::Reconciled => "reconciled",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether nothing follows it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line of an operation's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Rises within an operation; 1 is its acceptance.
    pub sequence: u32,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The number of the attempt that it belongs to; 0 before the first.
    pub attempt: u32,
    /// The upstream's status, where it answered.
    pub status: Option<u16>,
    /// The code of what went wrong.
    pub code: Option<ErrorCode>,
    /// When the next attempt is due.
    pub next_at: Option<Timestamp>,
    /// How far it is, in percent.
    pub percent: Option<u8>,
    /// What the upstream said about its progress; 200 characters at most.
    pub message: Option<String>,
}

impl Event {
    /// The acceptance of an operation, which is the first event of each.
    pub const fn accepted(at: Timestamp) -> Self {
        Self {
            sequence: 1,
            at,
            kind: EventKind::Accepted,
            attempt: 0,
            status: None,
            code: None,
            next_at: None,
            percent: None,
            message: None,
        }
    }
}
