//! The states of an operation. A fact that holds in one state only lives in that variant.

use std::fmt;
use std::str::FromStr;

use super::Failure;
use crate::Timestamp;

/// Where an operation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// Ready to be claimed, or due later.
    Queued {
        /// When it may be claimed.
        due_at: Timestamp,
    },
    /// An attempt is on its way.
    Running {
        /// When that attempt began.
        since: Timestamp,
    },
    /// Waits for something other than a slot, and holds none.
    Waiting {
        /// What it waits for.
        on: WaitingFor,
        /// When it is looked at again, where that has a time.
        due_at: Option<Timestamp>,
    },
    /// Carried out.
    Succeeded {
        /// When that was recorded.
        at: Timestamp,
    },
    /// Ended without success.
    Failed {
        /// When that was recorded.
        at: Timestamp,
        /// Why.
        failure: Failure,
    },
    /// Called off before it ended.
    Canceled {
        /// When that was recorded.
        at: Timestamp,
    },
}

impl OperationState {
    /// The state's name, as documents, metrics and filters show it.
    pub fn status(&self) -> Status {
        match self {
            Self::Queued { .. } => Status::Queued,
            Self::Running { .. } => Status::Running,
            Self::Waiting { .. } => Status::Waiting,
            Self::Succeeded { .. } => Status::Succeeded,
            Self::Failed { .. } => Status::Failed,
            Self::Canceled { .. } => Status::Canceled,
        }
    }

    /// When the operation ended, if it has.
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Succeeded { at } | Self::Failed { at, .. } | Self::Canceled { at } => Some(*at),
            Self::Queued { .. } | Self::Running { .. } | Self::Waiting { .. } => None,
        }
    }
}

/// A state's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// See [`OperationState::Queued`].
    Queued,
    /// See [`OperationState::Running`].
    Running,
    /// See [`OperationState::Waiting`].
    Waiting,
    /// See [`OperationState::Succeeded`].
    Succeeded,
    /// See [`OperationState::Failed`].
    Failed,
    /// See [`OperationState::Canceled`].
    Canceled,
}

impl Status {
    /// Every status, in the order of an operation's life.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Waiting, Self::Succeeded, Self::Failed, Self::Canceled];

    /// The name in documents and filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether the operation has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown status; one of queued, running, waiting, succeeded, failed, canceled is expected")]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// What an operation waits for while it holds no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitingFor {
    /// The upstream answered 202 and works on it; its monitor is followed.
    Upstream,
    /// Another operation with the same serial key goes first.
    SerialKey,
}

impl WaitingFor {
    /// The name in documents and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::SerialKey => "serial-key",
        }
    }
}

impl FromStr for WaitingFor {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        [Self::Upstream, Self::SerialKey]
            .into_iter()
            .find(|on| on.as_str() == text)
            .ok_or(UnknownStatus)
    }
}

/// The number of rescues behind which an operation runs alone.
const QUARANTINED_FROM: u32 = 2;
/// How many crashes it may take a node alone before it is given up.
const CRASHES_ALONE: u32 = 3;

/// What the upstream has had of an operation, over all of its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum UpstreamContact {
    /// Certainly nothing.
    #[default]
    Nothing = 0,
    /// Something, and each time an answer came that tells what it did with it.
    Answered = 1,
    /// Something, and of at least one attempt it is unknown what it did.
    Lost = 2,
}

impl UpstreamContact {
    /// The one with that number in the ledger.
    pub const fn numbered(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Nothing),
            1 => Some(Self::Answered),
            2 => Some(Self::Lost),
            _ => None,
        }
    }
}

/// How often an operation has been begun, and which beginnings do not count against
/// its retry limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts begun. The upstream sees this number as `Operation-Attempt`.
    pub attempts: u32,
    /// Attempts handed back or interrupted by a shutdown.
    pub resumes: u32,
    /// Attempts whose owner died.
    pub rescues: u32,
    /// Attempts that the upstream refused with a 429 or a 503 that named a time.
    pub refusals: u32,
    /// What the upstream has had.
    pub contact: UpstreamContact,
    /// Whether its next attempt, or the present one, is the last that it gets before a deadline
    /// ahead of the time that the upstream asked for.
    pub last_try: bool,
}

impl Counts {
    /// Whether it runs alone from now on: nodes died often enough while they carried it
    /// out, among other things, that it may be what kills them.
    pub const fn is_quarantined(self) -> bool {
        self.rescues >= QUARANTINED_FROM
    }

    /// How often nodes died of it alone; none where it does not run alone.
    pub const fn alone_before(self) -> Option<u32> {
        self.rescues.checked_sub(QUARANTINED_FROM)
    }

    /// Whether nodes died often enough while they carried it out alone.
    pub const fn is_beyond_rescue(self) -> bool {
        self.rescues >= QUARANTINED_FROM + CRASHES_ALONE
    }

    /// The attempts that count against the retry limit.
    pub const fn spent(self) -> u32 {
        self.failed().saturating_sub(self.refusals)
    }

    /// The attempts that the upstream's trouble ended, refusals among them: what the pause
    /// before the next one grows with, so that an upstream that refuses everything at once
    /// is not asked twice a second for a day.
    pub const fn failed(self) -> u32 {
        self.attempts.saturating_sub(self.resumes + self.rescues)
    }
}
