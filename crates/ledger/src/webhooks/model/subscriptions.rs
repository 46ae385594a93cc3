//! Subscriptions, their keys, and receivers as senders see them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::webhooks::model::Format;
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_domain::webhooks::{ReceiverKey, Topics};
use cloakroom_domain::{Principal, Timestamp};

/// What a subscription is named by, a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(Uuid);

impl SubscriptionId {
    /// From fresh random bits.
    pub fn of_random(bits: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bits).into_uuid())
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
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

/// The kind of a signing key.
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

/// The settings of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSettings {
    /// Where messages go.
    pub url: String,
    /// The topics that it gets.
    pub topics: Topics,
    /// Only of these routes; of every one where there is none.
    pub routes: Vec<String>,
    /// Only with one of these tags; with and without where there is none.
    pub tags: Vec<String>,
    /// The subscriber's fields, sealed.
    pub headers: Option<Bytes>,
    /// A description for people.
    pub description: Option<String>,
    /// The format of messages.
    pub format: Format,
}

/// A subscription that is to be made.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Its principal.
    pub principal: Principal,
    /// What was set.
    pub settings: SubscriptionSettings,
    /// Whether the receiver at its URL has to agree before anything is sent there. It is
    /// unverified until then.
    pub asks: bool,
    /// The first key that signs its messages.
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
    /// Its kind.
    pub kind: KeyKind,
    /// The secret, sealed.
    pub sealed: Bytes,
}

/// The outcome of a request to subscribe.
#[derive(Clone, Debug)]
pub enum SubscribeOutcome {
    /// It is durably written.
    New(Box<Subscription>),
    /// The principal has as many as it may.
    TooMany,
}

/// Whether a subscription gets events.
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
    /// A person asked for it.
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
    /// The receiver of its deliveries.
    pub receiver: ReceiverKey,
    /// Its id.
    pub id: SubscriptionId,
    /// Its principal.
    pub principal: Principal,
    /// What was set.
    pub settings: SubscriptionSettings,
    /// Whether it gets events.
    pub state: SubscriptionState,
    /// Whether the receiver at its URL has to agree before anything is sent there.
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
pub enum SubscriptionChange {
    /// Other settings.
    Settings(Box<SubscriptionSettings>),
    /// Other settings, with a URL whose receiver has agreed to this.
    Moved(Box<SubscriptionSettings>, Permission),
    /// A person lets it go on.
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
pub struct SubscriptionUpdate {
    /// Which.
    pub id: SubscriptionId,
    /// Only if it is this principal's.
    pub principal: Option<Principal>,
    /// Only if it has not been changed since, but for how its receiver does
    /// ([`Subscription::edited`]).
    pub unless_since: Option<i64>,
    /// How.
    pub change: SubscriptionChange,
    /// Now.
    pub at: Timestamp,
}

/// The outcome of a change of a subscription.
#[derive(Clone, Debug)]
pub enum UpdateOutcome {
    /// It is now like that; of one that was deleted, as it was last.
    Done(Box<Subscription>),
    /// Another request has changed it meanwhile.
    Meanwhile,
    /// There is none.
    Unknown,
}

/// The owner of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyOwner {
    /// A subscription's.
    Receiver(ReceiverKey),
    /// That of a principal's callbacks.
    Callbacks(Principal),
}

/// A key that messages are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its number.
    pub number: i64,
    /// Its kind.
    pub kind: KeyKind,
    /// The secret, sealed.
    pub sealed: Bytes,
    /// When it was made.
    pub made_at: Timestamp,
    /// Until when it signs beside newer ones; for good where there is none.
    pub retires_at: Option<Timestamp>,
}

/// A key whose public half anybody may know, and who signs with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// The key.
    pub key: StoredKey,
    /// Its principal.
    pub principal: Principal,
    /// The subscription whose messages it signs; none for callbacks.
    pub subscription: Option<SubscriptionId>,
}

/// A rotation of keys.
#[derive(Clone, Debug)]
pub struct KeyRotation {
    /// The owner.
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

/// The outcome of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationOutcome {
    /// They sign from now on.
    Done,
    /// More would sign than may: some have to retire before, and nothing has changed.
    TooMany,
}

/// A receiver as senders see it: the part that does not change with each delivery.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Its number.
    pub key: ReceiverKey,
    /// The subscription's id; none of callbacks.
    pub subscription: Option<SubscriptionId>,
    /// Its principal.
    pub principal: Principal,
    /// Where messages go; of callbacks, the origin.
    pub url: String,
    /// The subscriber's fields, sealed.
    pub headers: Option<Bytes>,
    /// Whether it gets events.
    pub active: bool,
    /// Rises with each change of it, its keys included.
    pub changed: i64,
    /// What signs, the newest first.
    pub keys: Vec<StoredKey>,
}

/// Callbacks of a principal to an origin, whose receiver may have to be made.
#[derive(Clone, Debug)]
pub struct NewCallbacks {
    /// The owner.
    pub principal: Principal,
    /// Scheme, host and port.
    pub origin: String,
    /// What links in messages are built on.
    pub public_base: String,
    /// The keys that its callbacks are signed with, if it has none.
    pub keys: Vec<NewKey>,
    /// Now.
    pub at: Timestamp,
}

/// The callback of a new operation to an origin that the principal may not have been called
/// back at.
#[derive(Clone, Debug)]
pub struct FirstCallback {
    /// The receiver that it counts as.
    pub callbacks: NewCallbacks,
    /// The URL.
    pub url: String,
    /// The topics that it gets.
    pub topics: Topics,
}
