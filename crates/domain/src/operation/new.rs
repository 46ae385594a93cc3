//! An operation at the moment of its acceptance.

use std::sync::Arc;

use super::{Fingerprint, Policy, Work};
use crate::webhooks::Callback;
use crate::{OperationId, Principal, Timestamp};

/// Where claimable work lies: operations of one queue for one upstream. Those of
/// synchronous requests lie apart, because they take the next permit ahead of the rest,
/// and so do those that run alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The queue's name.
    pub queue: Arc<str>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// Whether a client is on the line for it.
    pub express: bool,
    /// Whether what lies in it runs alone ([`Counts::is_quarantined`](super::Counts)).
    pub quarantine: bool,
}

impl Lane {
    /// Where operations of this lane lie once they have to run alone.
    #[must_use]
    pub fn quarantined(&self) -> Self {
        Self { quarantine: true, ..self.clone() }
    }
}

/// Everything about an operation that is decided when it is accepted, and never changes.
#[derive(Clone, Debug)]
pub struct NewOperation {
    /// Its id.
    pub id: OperationId,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Whom it belongs to.
    pub principal: Principal,
    /// The name of the route that took it.
    pub route: Arc<str>,
    /// Where it lies until it is claimed.
    pub lane: Lane,
    /// What it does.
    pub work: Work,
    /// What was promised.
    pub policy: Policy,
    /// When it may begin.
    pub due_at: Timestamp,
    /// `Idempotency-Key` for the upstream; the id where this is none.
    pub upstream_key: Option<String>,
    /// What makes a repeat of the request the same operation.
    pub idempotency: Option<IdempotencyClaim>,
    /// At most one operation of this key runs at a time, in the order accepted.
    pub serial_key: Option<SerialKey>,
    /// The operation that gave rise to it.
    pub parent: Option<OperationId>,
    /// The operation that it repeats by hand.
    pub retry_of: Option<ManualRetry>,
    /// What the client calls it; 256 characters at most.
    pub client_reference: Option<String>,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// Where its callbacks go.
    pub callback: Option<Callback>,
    /// How many may be queued in its queue before it is refused.
    pub max_depth: u64,
    /// How many octets may be stored for what of its queue has not ended before it is refused.
    pub max_stored: u64,
}

impl NewOperation {
    /// Whether it may not begin as soon as it is accepted.
    pub fn is_delayed(&self) -> bool {
        self.due_at > self.accepted_at
    }
}

/// A repeat by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManualRetry {
    /// The operation that is repeated.
    pub of: OperationId,
    /// Whether that may be although an earlier repeat has not failed.
    pub again: bool,
}

/// A claim on an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyClaim {
    /// Digest of principal, route and key.
    pub digest: [u8; 16],
    /// What must be the same in a repeat.
    pub fingerprint: Fingerprint,
    /// How long the key counts.
    pub scope: KeyScope,
}

/// How long an idempotency key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// As long as the operation's row stands.
    Retained,
    /// Only while the operation is unfinished.
    Pending,
}

/// A serial key, and the digest of its scope (upstream, principal and key) that rows
/// are found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialKey {
    /// Digest of scope and key.
    pub digest: [u8; 16],
    /// The key as it was given.
    pub text: String,
}
