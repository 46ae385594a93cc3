//! How much lies in each lane, and when it is due, as this process knows it.
//!
//! Owns the counts that acceptance and dispatch consult on every request, so that
//! neither has to count rows. Its invariant: after each commit the depth of a lane is
//! the number of its ready rows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::verbs::LaneDepth;
use crate::domain::Timestamp;
use crate::domain::operation::Lane;

/// The lanes of the ledger.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<BTreeMap<Lane, Known>>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    depth: u64,
    // Nothing of the lane is due before this; none where nothing lies in it.
    next_due: Option<Timestamp>,
}

impl Lanes {
    /// Starts from what the ledger holds.
    pub(super) fn load(&self, depths: Vec<LaneDepth>) {
        let mut lanes = self.lock();
        for LaneDepth { lane, depth, oldest_due } in depths {
            lanes.insert(lane, Known { depth, next_due: oldest_due });
        }
    }

    /// An operation was put into the lane.
    pub(super) fn added(&self, lane: &Lane, due_at: Timestamp) {
        let mut lanes = self.lock();
        let known = lanes.entry(lane.clone()).or_default();
        known.depth += 1;
        known.next_due = Some(known.next_due.map_or(due_at, |due| due.min(due_at)));
    }

    /// So many operations left the lane.
    pub(super) fn removed(&self, lane: &Lane, count: u64) {
        if let Some(known) = self.lock().get_mut(lane) {
            known.depth = known.depth.saturating_sub(count);
        }
    }

    /// A claim looked into the lane and saw when its next one is due.
    pub(super) fn looked(&self, lane: &Lane, next_due: Option<Timestamp>) {
        if let Some(known) = self.lock().get_mut(lane) {
            known.next_due = next_due;
        }
    }

    /// How many are queued in a queue, over all of its lanes.
    pub(super) fn queue_depth(&self, queue: &str) -> u64 {
        let lanes = self.lock();
        lanes.iter().filter(|(lane, _)| &*lane.queue == queue).map(|(_, known)| known.depth).sum()
    }

    /// Whether nobody in the lane is due at that time.
    pub(super) fn nobody_due(&self, lane: &Lane, now: Timestamp) -> bool {
        self.lock().get(lane).is_none_or(|known| known.next_due.is_none_or(|due| due > now))
    }

    /// Every lane with its depth and the time before which nothing of it is due.
    pub(super) fn snapshot(&self) -> Vec<LaneDepth> {
        let lanes = self.lock();
        let row = |(lane, known): (&Lane, &Known)| LaneDepth {
            lane: lane.clone(),
            depth: known.depth,
            oldest_due: known.next_due,
        };
        lanes.iter().map(row).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Lane, Known>> {
        // Each change leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
