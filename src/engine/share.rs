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
    /// Has waited, or is waited for: it is remembered that it was refused.
    InLine,
    /// Has just come: it gets nothing that somebody in line was refused.
    Newcomer,
}

/// A part of the slots.
#[derive(Debug, Default)]
pub(super) struct Share {
    limit: AtomicUsize,
    taken: AtomicUsize,
    awaited: AtomicBool,
}

impl Share {
    pub(super) fn of(limit: usize) -> Arc<Self> {
        let share = Self::default();
        share.set_limit(limit);
        Arc::new(share)
    }

    /// From now on at most `limit` seats are out. Whoever waits for a seat of a share that
    /// grows has to be told by the caller.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    pub(super) fn take(self: &Arc<Self>, asker: Asker) -> Option<Seat> {
        if asker == Asker::Newcomer && self.awaited.load(Ordering::SeqCst) {
            return None;
        }
        let limit = self.limit();
        let more = |taken| (taken < limit).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok();
        if !taken && asker == Asker::InLine {
            self.awaited.store(true, Ordering::SeqCst);
        }
        taken.then(|| Seat(Arc::clone(self)))
    }

    /// Forgets who was refused: they ask again now.
    pub(super) fn call_up(&self) {
        self.awaited.store(false, Ordering::SeqCst);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
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
        share.set_limit(1);
        assert_eq!((share.taken(), share.limit()), (2, 1));
        let [one, two] = seats;
        drop(one);
        assert!(share.take(Asker::InLine).is_none());
        drop(two);
        let seat = share.take(Asker::InLine);
        assert!(seat.is_some() && share.take(Asker::InLine).is_none());
        share.set_limit(2);
        assert!(share.take(Asker::InLine).is_some());
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
