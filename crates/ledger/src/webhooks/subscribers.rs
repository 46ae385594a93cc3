//! The receivers that a node remembers, so that the ledger is not asked about each event.
//!
//! Owns the index that stands. Its invariant: it is as good as its version, which rises
//! with every change of a receiver and which a transaction reads before it relies on this;
//! it is brought up to date by reading, and by transactions that have changed no receiver
//! themselves.

use std::sync::{Arc, PoisonError, RwLock};

use crate::webhooks::model::Format;
use crate::webhooks::subscription_index::SubscriptionIndex;
use cloakroom_domain::limit::Rate;
use cloakroom_domain::webhooks::{ReceiverKey, Topic, Topics};
use cloakroom_domain::{Principal, Timestamp};

/// A receiver as this node remembers it.
#[derive(Clone, Debug)]
pub(crate) struct KnownReceiver {
    pub(crate) receiver: ReceiverKey,
    /// The version of its last change.
    pub(crate) changed: i64,
    pub(crate) principal: Principal,
    /// None of callbacks.
    pub(crate) filter: Option<Filter>,
    pub(crate) standing: ReceiverStanding,
    pub(crate) failing_since: Option<Timestamp>,
    pub(crate) complained: bool,
    /// How what is made for it is wrapped.
    pub(crate) format: Format,
    /// How many in a minute it takes.
    pub(crate) allowed_rate: Option<u32>,
}

impl KnownReceiver {
    /// What it is told of, of a subscription that stands.
    pub(super) fn subscribes(&self) -> Option<&Filter> {
        self.filter.as_ref().filter(|_| self.standing != ReceiverStanding::Deleted)
    }
}

/// Whether deliveries to a receiver go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceiverStanding {
    Active,
    /// They are held.
    Holds,
    Deleted,
}

/// The events that a subscription gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) topics: Topics,
    pub(crate) routes: Vec<String>,
    pub(crate) tags: Vec<String>,
}

impl Filter {
    /// Whether it lets an event through. What is about webhooks has no route and no tags.
    pub(crate) fn takes(&self, topic: Topic, route: &str, tags: &[String]) -> bool {
        if !topic.is_of_operation() {
            return self.topics.has(topic);
        }
        let routed = self.routes.is_empty() || self.routes.iter().any(|name| name == route);
        let tagged = self.tags.is_empty() || self.tags.iter().any(|tag| tags.contains(tag));
        self.topics.has(topic) && routed && tagged
    }
}

/// One that is to be told of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub(crate) receiver: ReceiverKey,
    /// Whether what goes to it is held.
    pub(crate) holds: bool,
    pub(crate) format: Format,
}

impl Recipient {
    pub(crate) fn of(known: &KnownReceiver) -> Self {
        let holds = known.standing == ReceiverStanding::Holds;
        Self { receiver: known.receiver, holds, format: known.format }
    }
}

/// The receivers of an event that get it at once, and whether there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recipients {
    pub(crate) first: Vec<Recipient>,
    /// The last receiver that there is, where more of them match.
    pub(crate) more_up_to: Option<ReceiverKey>,
}

/// The receivers that a node remembers.
#[derive(Debug, Default)]
pub(crate) struct Subscribers(RwLock<Arc<SubscriptionIndex>>);

/// The principals of receivers, as this node knows them.
#[derive(Clone, Debug)]
pub struct Owners {
    index: Arc<SubscriptionIndex>,
    everyone: Principal,
}

impl Owners {
    /// Whose a receiver is; of one that this node has not heard of yet, as if no principal were
    /// told from anybody else.
    pub fn of(&self, receiver: ReceiverKey) -> &Principal {
        self.index.known(receiver).map_or(&self.everyone, |known| &known.principal)
    }

    /// How many receivers there are whose deliveries are held.
    pub fn holding(&self) -> usize {
        self.index.holding
    }

    /// How fast a receiver has said that it may be sent to, if it has.
    pub fn allowed_rate(&self, receiver: ReceiverKey) -> Option<Rate> {
        self.index.known(receiver)?.allowed_rate.map(u64::from).and_then(Rate::minutely)
    }
}

impl Subscribers {
    /// The principals of receivers, as they are remembered.
    pub(crate) fn owners(&self) -> Owners {
        Owners { index: self.index(), everyone: Principal::everyone() }
    }

    /// As it is remembered.
    pub(crate) fn index(&self) -> Arc<SubscriptionIndex> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what has changed since; what is remembered never grows older.
    pub(crate) fn learn(
        &self,
        version: i64,
        public_base: Option<String>,
        changed: Vec<KnownReceiver>,
    ) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let nothing = version == place.version && changed.is_empty();
        if version < place.version || nothing {
            return;
        }
        // An index that a reader is looking at stays as it is.
        let index = Arc::make_mut(&mut place);
        changed.into_iter().for_each(|known| index.put(known));
        index.public_base = public_base;
        // Last, so that what breaks off is taken in once more.
        index.version = version;
    }
}
