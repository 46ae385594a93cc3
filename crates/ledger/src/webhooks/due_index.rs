//! The due times of deliveries, in memory: the next one of each lane. So this node does not poll for
//! deliveries that it made itself.
//!
//! Its invariant: it may name a time that is too early, and never one that is too late for
//! what this node has committed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::ReceiverKey;

/// Deliveries to one receiver that were tried before, or that were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryLane {
    /// The receiver.
    pub receiver: ReceiverKey,
    /// Whether they were tried before.
    pub again: bool,
}

/// When the next of each lane is due.
#[derive(Debug, Default)]
pub(crate) struct DueIndex(Mutex<DueTimes>);

#[derive(Debug, Default)]
struct DueTimes {
    due: HashMap<DeliveryLane, Timestamp>,
    order: BTreeSet<(Timestamp, DeliveryLane)>,
}

impl DueIndex {
    fn known(&self) -> MutexGuard<'_, DueTimes> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is due then.
    pub(crate) fn added(&self, lane: DeliveryLane, due_at: Timestamp) {
        let mut known = self.known();
        let earlier = known.due.get(&lane).is_some_and(|known| *known <= due_at);
        if !earlier {
            known.forget(lane);
            known.due.insert(lane, due_at);
            known.order.insert((due_at, lane));
        }
    }

    /// Forgets the lane's due time; the claim that follows reports the new one.
    pub(crate) fn taken(&self, lane: DeliveryLane) {
        self.known().forget(lane);
    }

    /// The lanes of which one is due, the longest due first, at most so many.
    pub(crate) fn due(&self, now: Timestamp) -> Vec<DeliveryLane> {
        let known = self.known();
        known.order.iter().take_while(|(due, _)| *due <= now).map(|(_, lane)| *lane).collect()
    }

    /// When the next of a lane is due, as far as this node knows.
    pub(crate) fn since(&self, lane: DeliveryLane) -> Option<Timestamp> {
        self.known().due.get(&lane).copied()
    }

    /// When the next one is due behind that instant.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let known = self.known();
        known.order.iter().map(|(due, _)| *due).find(|due| *due > after)
    }
}

impl DueTimes {
    fn forget(&mut self, lane: DeliveryLane) {
        if let Some(due) = self.due.remove(&lane) {
            self.order.remove(&(due, lane));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn lane(receiver: i64) -> DeliveryLane {
        DeliveryLane { receiver: ReceiverKey(receiver), again: false }
    }

    const fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn the_earliest_counts_until_somebody_asks() {
        let heads = DueIndex::default();
        heads.added(lane(1), at(50));
        heads.added(lane(1), at(20));
        heads.added(lane(1), at(70));
        heads.added(lane(2), at(10));
        assert_eq!(heads.due(at(20)), [lane(2), lane(1)]);
        assert_eq!((heads.next(at(5)), heads.next(at(20))), (Some(at(10)), None));
        heads.taken(lane(2));
        assert_eq!(heads.due(at(20)), [lane(1)]);
    }
}
