//! How much lies in each lane, and when it is due, as this process knows it.
//!
//! Owns the counts that acceptance and dispatch consult on every request, so that
//! neither has to count rows. Its invariants: where nobody else writes, after each commit
//! the depth of a lane is the number of its ready rows; and what was looked up before an
//! operation was added never hides that operation.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::verbs::LaneDepth;
use crate::domain::Timestamp;
use crate::domain::operation::Lane;

/// The lanes of the ledger.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Whether others put in and take out too.
    shared: bool,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    lanes: BTreeMap<Lane, Known>,
    additions: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    depth: u64,
    // How many it is worth to ask for, where others know of more.
    reach: u64,
    // Nothing of the lane is due before this; none where nothing lies in it.
    next_due: Option<Timestamp>,
    // The number of the last addition.
    added: u64,
}

/// A moment between additions. What a look finds is as old as the moment before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

impl Lanes {
    pub(super) fn new(shared: bool) -> Self {
        Self { shared, table: Mutex::default() }
    }

    /// Starts from what the ledger holds.
    pub(super) fn load(&self, depths: Vec<LaneDepth>) {
        let mut table = self.lock();
        for LaneDepth { lane, depth, oldest_due, claimable } in depths {
            let known = Known { depth, reach: claimable, next_due: oldest_due, added: 0 };
            table.lanes.insert(lane, known);
        }
    }

    /// The present moment, to be taken before a look.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.lock().additions)
    }

    /// An operation was put into the lane.
    pub(super) fn added(&self, lane: &Lane, due_at: Timestamp) {
        let mut table = self.lock();
        table.additions += 1;
        let added = table.additions;
        let known = table.lanes.entry(lane.clone()).or_default();
        known.depth += 1;
        known.reach += 1;
        known.added = added;
        known.next_due = Some(known.next_due.map_or(due_at, |due| due.min(due_at)));
    }

    /// So many operations left the lane.
    pub(super) fn removed(&self, lane: &Lane, count: u64) {
        if let Some(known) = self.lock().lanes.get_mut(lane) {
            known.depth = known.depth.saturating_sub(count);
            known.reach = known.reach.saturating_sub(count);
        }
    }

    /// A claim that was begun after `since` took so many, and saw when the next is due.
    pub(super) fn claimed(
        &self,
        lane: &Lane,
        count: u64,
        next_due: Option<Timestamp>,
        since: Moment,
    ) {
        self.removed(lane, count);
        self.looked(lane, next_due, since);
        if let Some(known) = self.lock().lanes.get_mut(lane)
            && next_due.is_some()
        {
            // Others put in what is not counted here: there may be twice as many again.
            known.reach = known.reach.max(2 * count);
        }
    }

    /// A look that was begun after `since` saw when the next of the lane is due. Whether
    /// that is news.
    pub(super) fn looked(&self, lane: &Lane, next_due: Option<Timestamp>, since: Moment) -> bool {
        let shared = self.shared;
        let mut table = self.lock();
        let Some(known) = table.lanes.get_mut(lane) else { return false };
        let before = known.next_due;
        if known.added > since.0 {
            known.next_due = before.into_iter().chain(next_due).min();
        } else {
            known.next_due = next_due;
            if shared && next_due.is_none() {
                (known.depth, known.reach) = (0, 0);
            }
        }
        if known.next_due.is_some() {
            known.reach = known.reach.max(1);
            known.depth = known.depth.max(u64::from(shared));
        }
        match (before, known.next_due) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(now)) => now < before,
        }
    }

    /// How many are queued in a queue, over all of its lanes.
    pub(super) fn queue_depth(&self, queue: &str) -> u64 {
        let table = self.lock();
        let of_queue = table.lanes.iter().filter(|(lane, _)| &*lane.queue == queue);
        of_queue.map(|(_, known)| known.depth).sum()
    }

    /// Whether nobody in the lane is due at that time.
    pub(super) fn nobody_due(&self, lane: &Lane, now: Timestamp) -> bool {
        let table = self.lock();
        table.lanes.get(lane).is_none_or(|known| known.next_due.is_none_or(|due| due > now))
    }

    /// Every lane with its depth and the time before which nothing of it is due.
    pub(super) fn snapshot(&self) -> Vec<LaneDepth> {
        let table = self.lock();
        let row = |(lane, known): (&Lane, &Known)| LaneDepth {
            lane: lane.clone(),
            depth: known.depth,
            claimable: if self.shared { known.reach } else { known.depth },
            oldest_due: known.next_due,
        };
        table.lanes.iter().map(row).collect()
    }

    /// Every lane.
    pub(super) fn all(&self) -> Vec<Lane> {
        self.lock().lanes.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change leaves the table whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane { queue: "q".into(), upstream: "u".into(), express: false, quarantine: false }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn what_is_added_while_somebody_looks_is_not_hidden_by_what_the_look_saw() {
        let lanes = Lanes::new(true);
        let before = lanes.moment();
        lanes.added(&lane(), at(5));
        lanes.looked(&lane(), None, before);
        assert_eq!(lanes.snapshot()[0].oldest_due, Some(at(5)));
        lanes.looked(&lane(), None, lanes.moment());
        assert_eq!(lanes.snapshot()[0].oldest_due, None);
    }

    #[test]
    fn where_others_take_too_an_empty_lane_has_no_depth_left() {
        let lanes = Lanes::new(true);
        lanes.added(&lane(), at(5));
        lanes.looked(&lane(), None, lanes.moment());
        assert_eq!(lanes.queue_depth("q"), 0);
    }

    #[test]
    fn whoever_finds_more_than_it_knew_of_asks_for_more_each_time() {
        let lanes = Lanes::new(true);
        lanes.load(vec![LaneDepth { lane: lane(), depth: 0, claimable: 0, oldest_due: None }]);
        assert!(lanes.looked(&lane(), Some(at(1)), lanes.moment()));
        let mut asked = Vec::new();
        for _ in 0..4 {
            let claimable = lanes.snapshot()[0].claimable;
            asked.push(claimable);
            lanes.claimed(&lane(), claimable, Some(at(1)), lanes.moment());
        }
        assert_eq!(asked, [1, 2, 4, 8]);
    }
}
