//! A part of the slots, and the seats taken of it.
//!
//! Owns one count and its limit. Its invariant: no seat is given while the limit is
//! reached, and each gives back what it took when it is dropped. The limit may change
//! while seats are out: a lower one takes effect as they are given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Who asks, where somebody may be waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// Has waited: it is remembered that it was refused.
    InLine,
    /// A client waits for it: it goes before all who have only just come.
    OnTheLine,
    /// Has waited for too long: it goes before all others once it was refused.
    Overdue,
    /// Has just come: it gets nothing that somebody in line was refused.
    Newcomer,
    /// Runs alone, and looks only now and then: once refused, the next that is free is its
    /// own.
    Alone,
}

/// A part of the slots.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// What is of use here at all.
    most: usize,
    limit: AtomicUsize,
    taken: AtomicUsize,
    awaited: AtomicBool,
    // The next seat is for an operation that has waited for too long.
    owed: AtomicBool,
    // One seat is for who runs alone.
    kept: AtomicBool,
    demand: Demand,
}

/// What there is use for, where several nodes share a limit.
#[derive(Debug, Default)]
struct Demand {
    // The most that were out since somebody last looked.
    peak: AtomicUsize,
    // What was refused since all who wait asked last.
    missed: AtomicUsize,
    // As many were granted as there are to be had.
    hopeless: AtomicBool,
}

impl Share {
    pub(super) fn of(most: usize) -> Arc<Self> {
        let share = Self { most, ..Self::default() };
        share.limit.store(most, Ordering::SeqCst);
        Arc::new(share)
    }

    /// From now on at most `limit` seats are out, and never more than are of use. Whether
    /// that is more than before: whoever waits for a seat has to be told by the caller.
    /// Where it is `hopeless`, nobody asks for more before the next time.
    pub(super) fn grant(&self, limit: usize, hopeless: bool) -> bool {
        self.demand.hopeless.store(hopeless, Ordering::SeqCst);
        let limit = limit.min(self.most);
        self.limit.swap(limit, Ordering::SeqCst) < limit
    }

    pub(super) fn take(self: &Arc<Self>, asker: Asker) -> Option<Seat> {
        if asker == Asker::Newcomer && self.awaited.load(Ordering::SeqCst) {
            return None;
        }
        let yields = matches!(asker, Asker::Newcomer | Asker::OnTheLine | Asker::InLine);
        if yields && self.owed.load(Ordering::SeqCst) {
            return None;
        }
        let kept = asker != Asker::Alone && self.kept.load(Ordering::SeqCst);
        let limit = self.limit().saturating_sub(usize::from(kept));
        let more = |taken| (taken < limit).then_some(taken + 1);
        if let Ok(before) = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more) {
            self.demand.peak.fetch_max(before + 1, Ordering::SeqCst);
            return Some(Seat(Arc::clone(self)));
        }
        match asker {
            Asker::InLine | Asker::OnTheLine => self.awaited.store(true, Ordering::SeqCst),
            Asker::Overdue => self.owed.store(true, Ordering::SeqCst),
            Asker::Alone => self.kept.store(true, Ordering::SeqCst),
            Asker::Newcomer => {}
        }
        None
    }

    /// So many would have been of use and were refused. Whether it is worth asking other
    /// nodes for them.
    pub(super) fn miss(&self, count: usize) -> bool {
        let before = self.demand.missed.fetch_max(count, Ordering::SeqCst);
        before == 0 && self.limit() < self.most && !self.demand.hopeless.load(Ordering::SeqCst)
    }

    /// How many have been of use since the last time this was asked, and those that would
    /// be.
    pub(super) fn demand(&self) -> usize {
        let peak = self.demand.peak.swap(self.taken(), Ordering::SeqCst);
        let missed = self.demand.missed.load(Ordering::SeqCst);
        (peak.max(self.taken()) + missed).min(self.most)
    }

    /// Forgets who was refused: they ask again now.
    pub(super) fn call_up(&self) {
        self.awaited.store(false, Ordering::SeqCst);
        self.owed.store(false, Ordering::SeqCst);
        self.demand.missed.store(0, Ordering::SeqCst);
    }

    /// Nobody runs alone any more, or asks again now.
    pub(super) fn keep_nothing(&self) {
        self.kept.store(false, Ordering::SeqCst);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Whether all that is of use here may be used.
    pub(super) fn is_whole(&self) -> bool {
        self.limit() == self.most
    }
}

/// One of a share; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Seat(Arc<Share>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_may_change_while_seats_are_out() {
        let share = Share::of(2);
        let seats = [share.take(Asker::InLine), share.take(Asker::InLine)];
        assert!(!share.grant(1, false));
        assert_eq!((share.taken(), share.limit()), (2, 1));
        let [one, two] = seats;
        drop(one);
        assert!(share.take(Asker::InLine).is_none());
        drop(two);
        let seat = share.take(Asker::InLine);
        assert!(seat.is_some() && share.take(Asker::InLine).is_none());
        assert!(share.grant(9, false));
        let second = share.take(Asker::InLine);
        assert!(second.is_some() && share.take(Asker::InLine).is_none());
    }

    #[test]
    fn what_was_of_use_and_what_would_have_been_are_the_demand() {
        let share = Share::of(9);
        share.grant(2, false);
        let seats = [share.take(Asker::InLine), share.take(Asker::InLine)];
        assert!(share.take(Asker::InLine).is_none());
        assert!(share.miss(4) && !share.miss(3), "others are asked once");
        drop(seats);
        assert_eq!((share.demand(), share.demand()), (6, 4));
        share.call_up();
        assert_eq!(share.demand(), 0);
        share.grant(2, true);
        assert!(!share.miss(1), "there is no more to be had");
        assert!(!Share::of(2).miss(1), "what is not of use here is not asked for");
    }

    #[test]
    fn the_next_free_seat_is_for_who_runs_alone_until_it_looks_again() {
        let share = Share::of(1);
        let seat = share.take(Asker::InLine);
        assert!(share.take(Asker::Alone).is_none());
        drop(seat);
        assert!(share.take(Asker::InLine).is_none());
        share.keep_nothing();
        let seat = share.take(Asker::InLine);
        assert!(seat.is_some() && share.take(Asker::Alone).is_none());
        drop(seat);
        assert!(share.take(Asker::Alone).is_some());
        share.keep_nothing();
        assert!(share.take(Asker::InLine).is_some());
    }

    #[test]
    fn the_next_free_seat_is_for_what_has_waited_too_long_until_all_ask_again() {
        let share = Share::of(1);
        let seat = share.take(Asker::OnTheLine);
        assert!(seat.is_some() && share.take(Asker::Overdue).is_none());
        drop(seat);
        for asker in [Asker::Newcomer, Asker::OnTheLine, Asker::InLine] {
            assert!(share.take(asker).is_none(), "{asker:?}");
        }
        let seat = share.take(Asker::Overdue);
        assert!(seat.is_some());
        drop(seat);
        share.call_up();
        assert!(share.take(Asker::OnTheLine).is_some());
    }

    #[test]
    fn who_has_just_come_takes_nothing_that_somebody_in_line_was_refused() {
        let share = Share::of(1);
        let seat = share.take(Asker::Newcomer);
        assert!(seat.is_some() && share.take(Asker::InLine).is_none());
        drop(seat);
        assert!(share.take(Asker::Newcomer).is_none());
        share.call_up();
        assert!(share.take(Asker::Newcomer).is_some());
    }
}
