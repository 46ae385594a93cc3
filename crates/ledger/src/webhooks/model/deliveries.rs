//! Deliveries and their attempts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::webhooks::model::Format;
use crate::webhooks::unreadable::UnreadableDelivery;
use cloakroom_domain::webhooks::{DeliveryDecision, ReceiverKey, ScheduleEnd, Topic};
use cloakroom_domain::{OperationId, Timestamp};

/// The number of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey(pub(crate) i64);

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DeliveryKey {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which deliveries to one receiver are wanted.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryWant {
    /// The receiver.
    pub receiver: ReceiverKey,
    /// Those that were tried before, or those that were not.
    pub again: bool,
    /// How many at most.
    pub limit: usize,
}

/// The claimed deliveries of one want.
#[derive(Debug)]
pub struct ClaimedDeliveries {
    /// What was wanted.
    pub want: DeliveryWant,
    /// The deliveries, oldest due first.
    pub leased: Vec<LeasedDelivery>,
    /// When the next one is due, if any is left.
    pub next_due: Option<Timestamp>,
    /// What cannot be read; nothing of it is left here once a claim has returned.
    pub(crate) unread: Vec<UnreadableDelivery>,
}

/// The right to settle one delivery: it is void once the delivery was handed out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryLease {
    /// The delivery.
    pub delivery: DeliveryKey,
    pub(crate) token: i64,
}

/// A delivery that was handed out to be sent.
#[derive(Clone, Debug)]
pub struct LeasedDelivery {
    /// The right to settle it.
    pub lease: DeliveryLease,
    /// The receiver.
    pub receiver: ReceiverKey,
    /// How that one stood then ([`Receiver::changed`]).
    pub receiver_changed: i64,
    /// The URL of a callback.
    pub url: Option<String>,
    /// `webhook-id`: always the same for the same event.
    pub message: Arc<str>,
    /// The topic of its event.
    pub topic: Topic,
    /// The time of its event.
    pub at: Timestamp,
    /// The body.
    pub body: Bytes,
    /// How it is wrapped: always alike, as was wished when the delivery was made.
    pub format: Format,
    /// Attempts begun, this one included.
    pub attempts: u32,
    /// Those of them that did not count.
    pub refusals: u32,
    /// When it ends, whatever has become of it.
    pub deadline_at: Timestamp,
}

/// The outcome of a delivery that was handed out, ready to be committed.
#[derive(Clone, Debug)]
pub enum DeliverySettlement {
    /// An attempt was made.
    Attempted(AttemptSettlement),
    /// No attempt was made: as if the delivery had not been handed out.
    Returned {
        /// The right to settle.
        lease: DeliveryLease,
        /// When it is due again.
        due_at: Timestamp,
    },
}

/// An attempt that was made, with what the schedule decides.
#[derive(Clone, Debug)]
pub struct AttemptSettlement {
    /// The right to settle.
    pub lease: DeliveryLease,
    /// The receiver that it went to.
    pub receiver: ReceiverKey,
    /// `webhook-id`.
    pub message: Arc<str>,
    /// The topic of its event.
    pub topic: Topic,
    /// What is recorded of the attempt.
    pub record: AttemptRecord,
    /// What the schedule decides.
    pub decision: DeliveryDecision,
    /// Now.
    pub at: Timestamp,
}

impl DeliverySettlement {
    /// The right to settle.
    pub const fn lease(&self) -> DeliveryLease {
        match self {
            Self::Attempted(attempt) => attempt.lease,
            Self::Returned { lease, .. } => *lease,
        }
    }

    /// The attempt, if one was made.
    pub const fn attempt(&self) -> Option<&AttemptSettlement> {
        match self {
            Self::Attempted(attempt) => Some(attempt),
            Self::Returned { .. } => None,
        }
    }

    /// The attempt, if its receiver took the delivery.
    pub(crate) fn delivered(&self) -> Option<&AttemptSettlement> {
        let taken = DeliveryDecision::Over(ScheduleEnd::Delivered);
        self.attempt().filter(|attempt| attempt.decision == taken)
    }
}

/// The outcome of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverySettled {
    /// It is durably written.
    Done,
    /// The delivery had been handed out again meanwhile.
    Stale,
}

/// One attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Counts from 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The status, where there was one.
    pub status: Option<u16>,
    /// What went wrong, in a word.
    pub code: Option<String>,
    /// When the next one is due.
    pub next_at: Option<Timestamp>,
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Another attempt is due then.
    Due {
        /// When.
        at: Timestamp,
    },
    /// An attempt is on its way.
    Sending {
        /// Since when.
        since: Timestamp,
    },
    /// Its receiver was disabled.
    Held {
        /// Since when.
        since: Timestamp,
    },
    /// It is over.
    Ended {
        /// How.
        how: DeliveryEnd,
        /// When.
        at: Timestamp,
    },
}

/// The end of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEnd {
    /// The receiver has it.
    Delivered,
    /// No attempt or no time was left.
    Exhausted,
    /// The receiver wanted no more.
    Gone,
    /// It was held, and another one was made instead of it.
    Replayed,
    /// Its receiver was deleted, it was held for too long, or what the ledger keeps of it is damaged.
    Dropped,
}

impl DeliveryEnd {
    const ALL: [Self; 5] =
        [Self::Delivered, Self::Exhausted, Self::Gone, Self::Replayed, Self::Dropped];

    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Exhausted => "exhausted",
            Self::Gone => "gone",
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }

    /// The end of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == name)
    }
}

/// The cause of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something happened.
    Event,
    /// A person tried the subscription out.
    Ping,
    /// A person wanted it once more.
    Replay,
}

impl Cause {
    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Ping => "ping",
            Self::Replay => "replay",
        }
    }

    /// The cause of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Event, Self::Ping, Self::Replay].into_iter().find(|cause| cause.as_str() == name)
    }
}

/// A delivery as it stands, without its body.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its number.
    pub key: DeliveryKey,
    /// The URL of a callback.
    pub url: Option<String>,
    /// `webhook-id`.
    pub message: String,
    /// The topic of its event.
    pub topic: Topic,
    /// The operation that it is about, as long as that is known.
    pub operation: Option<OperationId>,
    /// Its cause.
    pub cause: Cause,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its state.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempts: u32,
    /// The log of them, oldest first.
    pub log: Vec<AttemptRecord>,
}

/// The deliveries of a subscription, or of an operation's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveriesOf {
    /// Those to a subscription.
    Receiver(ReceiverKey),
    /// Those of the callback of an operation.
    Callback(OperationId),
}

/// Which deliveries are to be shown.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryListing {
    /// The owner.
    pub of: DeliveriesOf,
    /// Only those that stand so.
    pub only: Option<DeliverySelection>,
    /// Older than this one.
    pub before: Option<DeliveryKey>,
    /// How many at most.
    pub limit: usize,
}

/// Which deliveries are meant, by how they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverySelection {
    /// Due or on their way.
    Pending,
    /// Held for a receiver that was disabled.
    Held,
    /// Given up, because nothing was left or the receiver wanted no more.
    Failed,
    /// Delivered.
    Delivered,
    /// However they stand.
    All,
}

impl DeliverySelection {
    const ALL: [Self; 5] = [Self::Pending, Self::Held, Self::Failed, Self::Delivered, Self::All];

    /// The name that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::All => "all",
        }
    }

    /// The selection of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|selected| selected.as_str() == name)
    }
}

/// A page of deliveries, newest first.
#[derive(Clone, Debug)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Where the next page goes on ([`DeliveryListing::before`]); none at the end.
    pub next: Option<DeliveryKey>,
    /// Why deliveries, and attempts, of this page are not in it.
    pub(crate) unread: Vec<String>,
}

/// One step of a replay: what was made in a range of time goes out once more.
#[derive(Clone, Copy, Debug)]
pub struct ReplayStep {
    /// The receiver.
    pub receiver: ReceiverKey,
    /// Which of them. Those that are being sent are never among them.
    pub select: DeliverySelection,
    /// Made at or after.
    pub since: Timestamp,
    /// Made before.
    pub until: Timestamp,
    /// Behind this one.
    pub after: Option<DeliveryKey>,
    /// How many are looked at at most.
    pub limit: usize,
    /// Now.
    pub at: Timestamp,
}

/// The outcome of a step of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayStepOutcome {
    /// How many go out once more.
    pub count: u64,
    /// Where the next step goes on; none at the end.
    pub after: Option<DeliveryKey>,
}

/// The outcome of a request to deliver once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedeliveryOutcome {
    /// As this delivery: a new one, or itself where it waited for another attempt.
    As(DeliveryKey),
    /// It is being sent.
    Pending,
    /// There is none.
    Unknown,
}

/// The counts of a pruning step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedDeliveries {
    /// Deliveries of which nothing is left.
    pub deliveries: u64,
    /// Deliveries that had been held for too long, and are dropped.
    pub dropped: u64,
    /// How subscriptions stood before changes that no fan-out is older than.
    pub former: u64,
}

/// How many deliveries wait, counted no further than was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Those that are due.
    pub due: u64,
    /// Those that are due later. With the former, no more than was asked for.
    pub later: u64,
    /// Those that are held.
    pub held: u64,
}
