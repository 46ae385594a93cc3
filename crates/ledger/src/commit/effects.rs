//! The effects of a transaction on what this process remembers and on whom it wakes.
//!
//! Owns the list of them. Verbs add to it while they run; nothing of it is applied before the
//! transaction is durable.

use cloakroom_domain::OperationId;
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

use crate::operations::unreadable::Passed;
use crate::webhooks::publish::NewlyDue;

/// The effects of one transaction, applied once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Operations that became ready, with the lane and the time they are due.
    pub(crate) ready: Vec<(Lane, Timestamp)>,
    /// Operations that are in their lane again, with the time they are due. They count in it already.
    pub(crate) found_again: Vec<(Lane, Timestamp)>,
    /// Operations that ended, with their lanes and the octets that were stored for them.
    pub(crate) ended: Vec<(Lane, u64)>,
    /// Operations that left a lane unclaimed.
    pub(crate) unqueued: Vec<Lane>,
    /// How many more wait than before.
    pub(crate) waiting: i64,
    /// Operations that do not wait for a serial key any more, with their lanes.
    pub(crate) unkeyed: Vec<Lane>,
    /// Operations that were released by the end of another.
    pub(crate) released: Vec<OperationId>,
    /// Lanes that were counted anew where no other process writes.
    pub(crate) recounted: Vec<Recounted>,
    /// Whether something waits with a time.
    pub(crate) waits: bool,
    /// Operations that ended, or were handed back, because they cannot be read here.
    pub(crate) unread: Vec<Passed>,
    /// Deliveries that became due.
    pub(crate) due: NewlyDue,
    /// Places of operations that are left to another node, and why.
    pub(crate) left: Vec<(i64, String)>,
}

impl Effects {
    /// How many operations were not handed out because they cannot be read here.
    pub(crate) fn passed_over(&self) -> usize {
        self.unread.len() + self.left.len()
    }
}

/// What a lane was found to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recounted {
    pub(crate) lane: Lane,
    /// Operations that are ready.
    pub(crate) depth: i64,
    /// Operations that wait for a serial key.
    pub(crate) behind: i64,
    /// Octets that are stored for its operations, those that run alone included.
    pub(crate) stored: i64,
}
