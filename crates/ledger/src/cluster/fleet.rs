//! Beats and other messages between nodes by way of the ledger: the parameters of those verbs.

use std::time::Duration;

use cloakroom_domain::Timestamp;
use cloakroom_domain::fleet::{Heartbeat, Role};
use cloakroom_domain::operation::Lane;

/// What one hand-out of one operation is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    pub(crate) seq: i64,
    pub(crate) token: i64,
}

impl LeaseKey {
    /// The key of a hand-out, as the ledger's row names it: the operation's number there and the
    /// token of the hand-out. It settles nothing; that takes a [`Leased`](crate::Leased).
    pub const fn new(seq: i64, token: i64) -> Self {
        Self { seq, token }
    }
}

/// What a node tells of itself with each beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// What people call it.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// The queues that it works on; empty: every one.
    pub queues: Vec<String>,
    /// How many attempts may run at once on it.
    pub slots: u32,
    /// How many run.
    pub running: u32,
    /// What its configuration is told apart by.
    pub fingerprint: String,
    /// How long its beat may stay away before it counts as dead.
    pub lease: Duration,
}

/// What a beat brings back.
#[derive(Clone, Debug)]
pub struct Beaten {
    /// The number of this beat.
    pub beat: i64,
    /// The database's time, where it has one of its own.
    pub time: Option<Timestamp>,
    /// Every other node that may still be there, or that owns what runs.
    pub others: Vec<Heartbeat>,
    /// What this node owns, as the ledger knows it.
    pub held: Vec<Owned>,
    /// What all others have done in each lane.
    pub(crate) elsewhere: Vec<Counted>,
}

/// What was done in a lane since the ledger is counted, by one node or by several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) lane: Lane,
    /// Operations put in, less those taken out.
    pub(crate) depth: i64,
    /// The same of those that wait for a serial key.
    pub(crate) behind: i64,
    /// Attempts that began.
    pub(crate) started: u64,
    /// Octets stored for operations, less those of operations that ended.
    pub(crate) stored: i64,
}

/// A running operation whose row names this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The hand-out.
    pub key: LeaseKey,
    /// Whether it was taken over from a dead node, which may have sent it.
    pub taken_over: bool,
    /// Whether it was called off.
    pub cancel_asked: bool,
}

/// A node that is dead, as its survivors saw it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    /// The number of its start.
    pub incarnation: i64,
    /// The beat behind which none came; it is not dead once there is another. None where
    /// it is known to have ended.
    pub beat: Option<i64>,
}

/// A node as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// The number of its start.
    pub incarnation: i64,
    /// What it told with its last beat.
    pub vitals: Vitals,
    /// Its release.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it beat last.
    pub beat_at: Timestamp,
    /// When it stopped of its own accord.
    pub ended_at: Option<Timestamp>,
}
