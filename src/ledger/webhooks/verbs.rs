//! What the ledger is asked about webhooks, and what it answers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::delivery::cloud_event::Permission;
use crate::domain::delivery::{Ended, Next, ReceiverKey, Topic, Topics};
use crate::domain::{OperationId, Principal, Timestamp};
use crate::ledger::verbs::Operation;

/// What a subscription is named by, a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(Uuid);

impl SubscriptionId {
    /// From fresh random bits.
    pub fn of_random(bits: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bits).into_uuid())
    }

    pub(in crate::ledger) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub(in crate::ledger) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text names no subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subscription's id is a UUID")]
pub struct NoSubscriptionId;

impl FromStr for SubscriptionId {
    type Err = NoSubscriptionId;

    fn from_str(text: &str) -> Result<Self, NoSubscriptionId> {
        Uuid::try_parse(text).map(Self).map_err(|_| NoSubscriptionId)
    }
}

/// The number of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey(pub(in crate::ledger) i64);

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

/// How a message is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As Standard Webhooks says.
    Standard,
    /// As a cloud event in structured mode.
    CloudEvents,
}

impl Format {
    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Standard, Self::CloudEvents].into_iter().find(|format| format.as_str() == name)
    }
}

/// How a message is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// HMAC-SHA256 with a shared secret.
    V1,
    /// Ed25519.
    V1a,
}

impl KeyKind {
    /// Both, in the order in which they are made.
    pub const BOTH: [Self; 2] = [Self::V1, Self::V1a];

    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What somebody sets about a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSettings {
    /// Where messages go.
    pub url: String,
    /// What it is told of.
    pub topics: Topics,
    /// Only of these routes; of every one where there is none.
    pub routes: Vec<String>,
    /// Only with one of these tags; with and without where there is none.
    pub tags: Vec<String>,
    /// The subscriber's fields, sealed.
    pub headers: Option<Bytes>,
    /// What it is for.
    pub description: Option<String>,
    /// How messages are wrapped.
    pub format: Format,
}

/// A subscription that is to be made.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it is.
    pub principal: Principal,
    /// What was set.
    pub settings: SubscriptionSettings,
    /// Whether whoever is at its URL has to agree before anything is sent there. It is
    /// unverified until then.
    pub asks: bool,
    /// What its messages are signed with.
    pub key: NewKey,
    /// How many a principal may have.
    pub most: u32,
    /// What links in messages are built on.
    pub public_base: String,
    /// Now.
    pub at: Timestamp,
}

/// A key that is to be kept.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What it signs with.
    pub kind: KeyKind,
    /// The secret, sealed.
    pub sealed: Bytes,
}

/// What became of a wish to subscribe.
#[derive(Clone, Debug)]
pub enum Subscribed {
    /// It is durably written.
    New(Box<Subscription>),
    /// The principal has as many as it may.
    TooMany,
}

/// Whether a subscription is told of what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionState {
    /// It is.
    Active,
    /// Its receiver has not agreed yet; what comes meanwhile is held.
    Unverified,
    /// It is not; what comes meanwhile is held.
    Disabled {
        /// Since when.
        at: Timestamp,
        /// Why.
        why: DisabledFor,
    },
}

impl SubscriptionState {
    /// The name that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Unverified => "unverified",
            Self::Disabled { .. } => "disabled",
        }
    }
}

/// Why a subscription is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledFor {
    /// Its receiver answered 410.
    Gone,
    /// It has done nothing but fail for days.
    Failing,
    /// Somebody asked for it.
    Asked,
}

impl DisabledFor {
    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::Asked => "asked",
        }
    }

    /// The reason of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Gone, Self::Failing, Self::Asked].into_iter().find(|why| why.as_str() == name)
    }
}

/// A subscription as it stands, without its keys.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Whom its deliveries go to.
    pub receiver: ReceiverKey,
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it is.
    pub principal: Principal,
    /// What was set.
    pub settings: SubscriptionSettings,
    /// Whether it is told of what happens.
    pub state: SubscriptionState,
    /// Whether whoever is at its URL has to agree before anything is sent there.
    pub asks: bool,
    /// How many deliveries in a minute it allowed when it was asked; as many as come where there
    /// is none.
    pub allowed_rate: Option<u32>,
    /// When the first of the failures was that no success has followed.
    pub failing_since: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last, its keys and how its receiver does aside.
    pub changed_at: Timestamp,
    /// Rises with each change.
    pub changed: i64,
    /// Rises with each change of what can be set: of settings, keys, and whether it is told. Not
    /// with how its receiver does.
    pub edited: i64,
}

/// Which subscriptions are wanted.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionListing {
    /// Only this principal's; everybody's where there is none.
    pub principal: Option<Principal>,
    /// Behind this one, in the order in which they were made.
    pub after: Option<ReceiverKey>,
    /// How many at most.
    pub limit: usize,
}

/// A change of a subscription.
#[derive(Clone, Debug)]
pub enum Change {
    /// Other settings.
    Settings(Box<SubscriptionSettings>),
    /// Other settings, with a URL where somebody has agreed to this.
    Moved(Box<SubscriptionSettings>, Permission),
    /// Somebody lets it go on.
    Enable,
    /// The same, because its receiver has agreed to this.
    Agreed(Permission),
    /// Nothing more is sent to it.
    Disable(DisabledFor),
    /// It is gone; what was on its way to it is dropped.
    Delete,
}

/// A change of one subscription.
#[derive(Clone, Debug)]
pub struct Changing {
    /// Which.
    pub id: SubscriptionId,
    /// Only if it is this principal's.
    pub principal: Option<Principal>,
    /// Only if nobody has changed it since, but for how its receiver does
    /// ([`Subscription::edited`]).
    pub unless_since: Option<i64>,
    /// How.
    pub change: Change,
    /// Now.
    pub at: Timestamp,
}

/// What became of a wish to change a subscription.
#[derive(Clone, Debug)]
pub enum Changed {
    /// It is now like that; of one that was deleted, as it was last.
    Done(Box<Subscription>),
    /// Somebody has changed it meanwhile.
    Meanwhile,
    /// There is none.
    Unknown,
}

/// Whose a key is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyOwner {
    /// A subscription's.
    Receiver(ReceiverKey),
    /// That of a principal's callbacks.
    Callbacks(Principal),
}

/// A key that messages are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// Its number.
    pub number: i64,
    /// What it signs with.
    pub kind: KeyKind,
    /// The secret, sealed.
    pub sealed: Bytes,
    /// When it was made.
    pub made_at: Timestamp,
    /// Until when it signs beside newer ones; for good where there is none.
    pub retires_at: Option<Timestamp>,
}

/// A wish for other keys.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Whose.
    pub owner: KeyOwner,
    /// The new ones.
    pub keys: Vec<NewKey>,
    /// Whether keys of other kinds than these are left alone.
    pub beside: bool,
    /// How long the others go on signing at most.
    pub grace: Duration,
    /// How many may sign at once.
    pub most: usize,
    /// Now.
    pub at: Timestamp,
}

/// What became of a wish for other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// They sign from now on.
    Done,
    /// More would sign than may: some have to retire before, and nothing has changed.
    TooMany,
}

/// Whom a courier sends to: what does not change with each delivery.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its number.
    pub key: ReceiverKey,
    /// The subscription's id; none of callbacks.
    pub subscription: Option<SubscriptionId>,
    /// Whose it is.
    pub principal: Principal,
    /// Where messages go; of callbacks, the origin.
    pub url: String,
    /// The subscriber's fields, sealed.
    pub headers: Option<Bytes>,
    /// Whether it is told of what happens.
    pub active: bool,
    /// Rises with each change of it, its keys included.
    pub changed: i64,
    /// What signs, the newest first.
    pub keys: Vec<SigningKey>,
}

/// Which deliveries to one receiver are wanted.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryWant {
    /// To whom.
    pub receiver: ReceiverKey,
    /// Those that were tried before, or those that were not.
    pub again: bool,
    /// How many at most.
    pub limit: usize,
}

/// What a claim brought for one want.
#[derive(Debug)]
pub struct ClaimedDeliveries {
    /// What was wanted.
    pub want: DeliveryWant,
    /// The deliveries, oldest due first.
    pub leased: Vec<LeasedDelivery>,
    /// When the next one is due, if any is left.
    pub next_due: Option<Timestamp>,
}

/// The right to settle one delivery: it is void once the delivery was handed out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryLease {
    /// The delivery.
    pub delivery: DeliveryKey,
    pub(in crate::ledger) token: i64,
}

/// A delivery that was handed out to be sent.
#[derive(Clone, Debug)]
pub struct LeasedDelivery {
    /// The right to settle it.
    pub lease: DeliveryLease,
    /// To whom.
    pub receiver: ReceiverKey,
    /// How that one stood then ([`Receiver::changed`]).
    pub receiver_changed: i64,
    /// Where to, of a callback.
    pub url: Option<String>,
    /// `webhook-id`: always the same for the same event.
    pub message: Arc<str>,
    /// What happened.
    pub topic: Topic,
    /// When that was.
    pub at: Timestamp,
    /// What is sent.
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

/// An attempt's end, ready to be committed.
#[derive(Clone, Debug)]
pub struct DeliverySettlement {
    /// The right to settle.
    pub lease: DeliveryLease,
    /// To whom it went.
    pub receiver: ReceiverKey,
    /// `webhook-id`.
    pub message: Arc<str>,
    /// What happened.
    pub topic: Topic,
    /// What comes next.
    pub next: DeliveryNext,
    /// Now.
    pub at: Timestamp,
}

impl DeliverySettlement {
    /// What was recorded of the attempt, where its receiver took it.
    pub(in crate::ledger) const fn delivered(&self) -> Option<&AttemptRecord> {
        match &self.next {
            DeliveryNext::Settled(record, Next::Over(Ended::Delivered)) => Some(record),
            _ => None,
        }
    }
}

/// What comes after an attempt to deliver, or instead of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryNext {
    /// It was sent, and this is what the schedule says.
    Settled(AttemptRecord, Next),
    /// It was not sent: as if it had not been handed out, and due then.
    Back(Timestamp),
}

/// What a settlement came to.
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

/// Where a delivery stands.
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

/// How a delivery came to its end.
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
    /// Its receiver was deleted, or it was held for too long.
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

/// Why there is a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Something happened.
    Event,
    /// Somebody tried the subscription out.
    Ping,
    /// Somebody wanted it once more.
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
    /// Where it goes, of a callback.
    pub url: Option<String>,
    /// `webhook-id`.
    pub message: String,
    /// What happened.
    pub topic: Topic,
    /// The operation that it is about, as long as that is known.
    pub operation: Option<OperationId>,
    /// Why there is one.
    pub cause: Cause,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempts: u32,
    /// What became of them, the first first.
    pub log: Vec<AttemptRecord>,
}

/// Whose deliveries are meant.
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
    /// Whose.
    pub of: DeliveriesOf,
    /// Only those that stand so.
    pub only: Option<Selected>,
    /// Older than this one.
    pub before: Option<DeliveryKey>,
    /// How many at most.
    pub limit: usize,
}

/// Which deliveries are meant, by how they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
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

impl Selected {
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
}

/// One step of a replay: what was made in a range of time goes out once more.
#[derive(Clone, Copy, Debug)]
pub struct ReplayStep {
    /// To whom.
    pub receiver: ReceiverKey,
    /// Which of them. Those that are on their way are never among them.
    pub select: Selected,
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

/// What a step of a replay came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// How many go out once more.
    pub count: u64,
    /// Where the next step goes on; none at the end.
    pub after: Option<DeliveryKey>,
}

/// What became of a wish to deliver something once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivered {
    /// As this delivery.
    As(DeliveryKey),
    /// It is on its way as it is.
    Pending,
    /// There is none.
    Unknown,
}

/// How much was put away that had become too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedDeliveries {
    /// Deliveries of which nothing is left.
    pub deliveries: u64,
    /// Deliveries that had been held for too long, and are dropped.
    pub dropped: u64,
    /// How subscriptions stood before changes that no fan-out is older than.
    pub former: u64,
}

/// What somebody is told.
#[derive(Clone, Debug)]
pub struct Message {
    /// `webhook-id`.
    pub name: String,
    /// What is sent.
    pub body: Bytes,
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

/// Writes what receivers are told. The ledger is lent one, asks it inside the transaction
/// that an event belongs to, and keeps what it writes.
pub trait Scribe: Send + Sync + 'static {
    /// About an operation as it stands after its event number `sequence`. Links are built
    /// on `public_base` where the node itself has nothing better.
    fn about_operation(
        &self,
        topic: Topic,
        operation: &Operation,
        sequence: u32,
        at: Timestamp,
        public_base: Option<&str>,
    ) -> Message;

    /// About a subscription, and a delivery to it where it is about one.
    fn about_subscription(
        &self,
        topic: Topic,
        subscription: &Subscription,
        delivery: Option<&str>,
        at: Timestamp,
    ) -> Message;
}
