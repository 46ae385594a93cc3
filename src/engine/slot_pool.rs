//! A pool of slots with a limit, and the demand for more.
//!
//! Owns one count and its limit. Its invariant: the pool gives out no slot while the limit is
//! reached, and a dropped slot returns to it. The limit may change while slots are out: a lower one
//! takes effect as they return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The priority of a caller that asks for a slot or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcquirePriority {
    /// A waiting caller: a refusal is recorded, so it goes before hand-offs.
    Waiting,
    /// A client waits for the response: it goes before hand-offs.
    Express,
    /// A caller that has waited too long: after a refusal it goes before all others.
    Overdue,
    /// A new operation: it gets nothing that a waiting caller was refused.
    Handoff,
    /// Quarantine, which asks only now and then: after a refusal, the next free slot is
    /// reserved for it.
    Quarantine,
}

/// A pool of slots.
#[derive(Debug, Default)]
pub(super) struct SlotPool {
    /// The most slots that are of use on this node.
    most: usize,
    limit: AtomicUsize,
    taken: AtomicUsize,
    has_waiters: AtomicBool,
    // The next slot is for an operation that has waited too long.
    overdue_waits: AtomicBool,
    // One slot is reserved for quarantine.
    reserved: AtomicBool,
    demand: Demand,
}

/// How many slots this node could use, where nodes share a limit.
#[derive(Debug, Default)]
struct Demand {
    // The most slots that were out since the last report.
    peak: AtomicUsize,
    // What was refused since all who wait asked last.
    shortage: AtomicUsize,
    // As many were granted as there are to be had.
    exhausted: AtomicBool,
}

impl SlotPool {
    pub(super) fn of(most: usize) -> Arc<Self> {
        let pool = Self { most, ..Self::default() };
        pool.limit.store(most, Ordering::SeqCst);
        Arc::new(pool)
    }

    /// Sets the limit, at most what is of use here. Returns whether it rose: then the caller
    /// wakes those that wait for a slot. `exhausted` says that the other nodes have no more to
    /// give before the next grant.
    pub(super) fn grant(&self, limit: usize, exhausted: bool) -> bool {
        self.demand.exhausted.store(exhausted, Ordering::SeqCst);
        let limit = limit.min(self.most);
        self.limit.swap(limit, Ordering::SeqCst) < limit
    }

    pub(super) fn take(self: &Arc<Self>, priority: AcquirePriority) -> Option<PoolSlot> {
        if priority == AcquirePriority::Handoff && self.has_waiters.load(Ordering::SeqCst) {
            return None;
        }
        let yields = matches!(
            priority,
            AcquirePriority::Handoff | AcquirePriority::Express | AcquirePriority::Waiting
        );
        if yields && self.overdue_waits.load(Ordering::SeqCst) {
            return None;
        }
        let reserved =
            priority != AcquirePriority::Quarantine && self.reserved.load(Ordering::SeqCst);
        let limit = self.limit().saturating_sub(usize::from(reserved));
        let more = |taken| (taken < limit).then_some(taken + 1);
        if let Ok(before) = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more) {
            self.demand.peak.fetch_max(before + 1, Ordering::SeqCst);
            return Some(PoolSlot(Arc::clone(self)));
        }
        match priority {
            AcquirePriority::Waiting | AcquirePriority::Express => {
                self.has_waiters.store(true, Ordering::SeqCst);
            }
            AcquirePriority::Overdue => self.overdue_waits.store(true, Ordering::SeqCst),
            AcquirePriority::Quarantine => self.reserved.store(true, Ordering::SeqCst),
            AcquirePriority::Handoff => {}
        }
        None
    }

    /// Records that so many slots were refused. Returns whether it is worth asking other nodes
    /// for them.
    pub(super) fn note_shortage(&self, count: usize) -> bool {
        let before = self.demand.shortage.fetch_max(count, Ordering::SeqCst);
        before == 0 && self.limit() < self.most && !self.demand.exhausted.load(Ordering::SeqCst)
    }

    /// How many slots this node used since the last report, and how many more it could use.
    pub(super) fn demand(&self) -> usize {
        let peak = self.demand.peak.swap(self.taken(), Ordering::SeqCst);
        let shortage = self.demand.shortage.load(Ordering::SeqCst);
        (peak.max(self.taken()) + shortage).min(self.most)
    }

    /// Forgets refusals: the refused callers ask again now.
    pub(super) fn forget_refusals(&self) {
        self.has_waiters.store(false, Ordering::SeqCst);
        self.overdue_waits.store(false, Ordering::SeqCst);
        self.demand.shortage.store(0, Ordering::SeqCst);
    }

    /// Ends the reservation for quarantine.
    pub(super) fn release_reserved(&self) {
        self.reserved.store(false, Ordering::SeqCst);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Whether this node may use all slots that are of use to it.
    pub(super) fn is_whole(&self) -> bool {
        self.limit() == self.most
    }
}

/// A slot of a pool; dropped, it is free again.
#[derive(Debug)]
pub(super) struct PoolSlot(Arc<SlotPool>);

impl Drop for PoolSlot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_may_change_while_seats_are_out() {
        let pool = SlotPool::of(2);
        let slots = [pool.take(AcquirePriority::Waiting), pool.take(AcquirePriority::Waiting)];
        assert!(!pool.grant(1, false));
        assert_eq!((pool.taken(), pool.limit()), (2, 1));
        let [one, two] = slots;
        drop(one);
        assert!(pool.take(AcquirePriority::Waiting).is_none());
        drop(two);
        let slot = pool.take(AcquirePriority::Waiting);
        assert!(slot.is_some() && pool.take(AcquirePriority::Waiting).is_none());
        assert!(pool.grant(9, false));
        let second = pool.take(AcquirePriority::Waiting);
        assert!(second.is_some() && pool.take(AcquirePriority::Waiting).is_none());
    }

    #[test]
    fn what_was_of_use_and_what_would_have_been_are_the_demand() {
        let pool = SlotPool::of(9);
        pool.grant(2, false);
        let slots = [pool.take(AcquirePriority::Waiting), pool.take(AcquirePriority::Waiting)];
        assert!(pool.take(AcquirePriority::Waiting).is_none());
        assert!(pool.note_shortage(4) && !pool.note_shortage(3), "others are asked once");
        drop(slots);
        assert_eq!((pool.demand(), pool.demand()), (6, 4));
        pool.forget_refusals();
        assert_eq!(pool.demand(), 0);
        pool.grant(2, true);
        assert!(!pool.note_shortage(1), "there is no more to be had");
        assert!(!SlotPool::of(2).note_shortage(1), "what is not of use here is not asked for");
    }

    #[test]
    fn the_next_free_seat_is_for_who_runs_alone_until_it_looks_again() {
        let pool = SlotPool::of(1);
        let slot = pool.take(AcquirePriority::Waiting);
        assert!(pool.take(AcquirePriority::Quarantine).is_none());
        drop(slot);
        assert!(pool.take(AcquirePriority::Waiting).is_none());
        pool.release_reserved();
        let slot = pool.take(AcquirePriority::Waiting);
        assert!(slot.is_some() && pool.take(AcquirePriority::Quarantine).is_none());
        drop(slot);
        assert!(pool.take(AcquirePriority::Quarantine).is_some());
        pool.release_reserved();
        assert!(pool.take(AcquirePriority::Waiting).is_some());
    }

    #[test]
    fn the_next_free_seat_is_for_what_has_waited_too_long_until_all_ask_again() {
        let pool = SlotPool::of(1);
        let slot = pool.take(AcquirePriority::Express);
        assert!(slot.is_some() && pool.take(AcquirePriority::Overdue).is_none());
        drop(slot);
        for priority in
            [AcquirePriority::Handoff, AcquirePriority::Express, AcquirePriority::Waiting]
        {
            assert!(pool.take(priority).is_none(), "{priority:?}");
        }
        let slot = pool.take(AcquirePriority::Overdue);
        assert!(slot.is_some());
        drop(slot);
        pool.forget_refusals();
        assert!(pool.take(AcquirePriority::Express).is_some());
    }

    #[test]
    fn who_has_just_come_takes_nothing_that_somebody_in_line_was_refused() {
        let pool = SlotPool::of(1);
        let slot = pool.take(AcquirePriority::Handoff);
        assert!(slot.is_some() && pool.take(AcquirePriority::Waiting).is_none());
        drop(slot);
        assert!(pool.take(AcquirePriority::Handoff).is_none());
        pool.forget_refusals();
        assert!(pool.take(AcquirePriority::Handoff).is_some());
    }
}
