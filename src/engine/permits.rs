//! How much may run at once.
//!
//! Owns the slots of this node and their sharing: over all, per upstream, and between
//! first attempts and retries. Its invariant: no count is ever above its limit, and every
//! permit gives back exactly what it took when it is dropped. It must not know what runs.
//!
//! A fifth of the slots is kept for first attempts. Whether a claimed operation is a
//! retry shows only once it is claimed, so a claim takes permits of the retries' share
//! and [`Permit::is_first_attempt`] hands that part back. Retries therefore never have
//! more than four fifths, while first attempts may fill every slot. What is handed over
//! at acceptance is a first attempt from the beginning, and what a client waits for on
//! the line counts as one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The slots of this node. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Permits(Arc<Slots>);

#[derive(Debug)]
struct Slots {
    all: Share,
    retries: Share,
    upstreams: HashMap<Arc<str>, Arc<Share>>,
    // Whether somebody waits for a permit; keeps every other release from waking anybody.
    wanted: AtomicBool,
    freed: Notify,
    gauge: metrics::Gauge,
}

/// A part of the slots.
#[derive(Debug)]
struct Share {
    limit: usize,
    taken: AtomicUsize,
}

impl Share {
    const fn of(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> bool {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// What a permit is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A first attempt, or one that a client waits for on the line.
    First,
    /// Perhaps a retry.
    PerhapsRetry,
}

/// The right to run one attempt; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Permit {
    slots: Arc<Slots>,
    upstream: Arc<Share>,
    of_retries: bool,
}

impl Permits {
    /// `slots` in all, and for each upstream how many may be in flight to it. Where there
    /// are several upstreams, none gets more than half of all slots.
    pub(super) fn new<'a>(
        slots: usize,
        upstreams: impl ExactSizeIterator<Item = (&'a Arc<str>, u32)>,
    ) -> Self {
        let most = if upstreams.len() > 1 { (slots / 2).max(1) } else { slots };
        let share = |(name, in_flight): (&Arc<str>, u32)| {
            (Arc::clone(name), Arc::new(Share::of(most.min(in_flight as usize))))
        };
        Self(Arc::new(Slots {
            all: Share::of(slots),
            retries: Share::of((slots - slots / 5).min(slots)),
            upstreams: upstreams.map(share).collect(),
            wanted: AtomicBool::new(false),
            freed: Notify::new(),
            gauge: metrics::gauge!("cloakroom_operations_running"),
        }))
    }

    /// A permit to call that upstream, if one is free; never for an unknown upstream.
    pub(super) fn take(&self, upstream: &str, purpose: Purpose) -> Option<Permit> {
        let slots = &self.0;
        let upstream = slots.upstreams.get(upstream)?;
        let of_retries = purpose == Purpose::PerhapsRetry;
        if !upstream.take() {
            return None;
        }
        if !slots.all.take() {
            upstream.give_back();
            return None;
        }
        if of_retries && !slots.retries.take() {
            slots.all.give_back();
            upstream.give_back();
            return None;
        }
        slots.gauge.increment(1.0);
        Some(Permit { slots: Arc::clone(slots), upstream: Arc::clone(upstream), of_retries })
    }

    /// As many permits as are free, at most `limit`.
    pub(super) fn take_up_to(&self, limit: usize, upstream: &str, purpose: Purpose) -> Vec<Permit> {
        std::iter::from_fn(|| self.take(upstream, purpose)).take(limit).collect()
    }

    /// Whether an upstream of that name has slots at all.
    pub(super) fn knows(&self, upstream: &str) -> bool {
        self.0.upstreams.contains_key(upstream)
    }

    /// How many permits are out.
    pub(super) fn taken(&self) -> usize {
        self.0.all.taken()
    }

    /// Asks to be told of the next permit that is given back. Ask first, then take: a
    /// permit given back in between is then not missed.
    pub(super) fn want(&self) {
        self.0.wanted.store(true, Ordering::SeqCst);
    }

    /// Completes when a permit was given back after [`Permits::want`].
    pub(super) async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl Slots {
    fn tell(&self) {
        if self.wanted.load(Ordering::SeqCst) && self.wanted.swap(false, Ordering::SeqCst) {
            self.freed.notify_one();
        }
    }
}

impl Permit {
    /// Takes the permit out of the retries' share.
    pub(super) fn is_first_attempt(&mut self) {
        if std::mem::take(&mut self.of_retries) {
            self.slots.retries.give_back();
            self.slots.tell();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.of_retries {
            self.slots.retries.give_back();
        }
        self.slots.all.give_back();
        self.upstream.give_back();
        self.slots.gauge.decrement(1.0);
        self.slots.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn permits(slots: usize, upstreams: &[(&str, u32)]) -> Permits {
        let named: Vec<(Arc<str>, u32)> =
            upstreams.iter().map(|(name, limit)| (Arc::from(*name), *limit)).collect();
        Permits::new(slots, named.iter().map(|(name, limit)| (name, *limit)))
    }

    #[test]
    fn one_upstream_alone_may_have_every_slot_up_to_its_own_limit() {
        let alone = permits(10, &[("a", 64)]);
        assert_eq!(alone.take_up_to(99, "a", Purpose::First).len(), 10);
        let limited = permits(10, &[("a", 3)]);
        assert_eq!(limited.take_up_to(99, "a", Purpose::First).len(), 3);
        assert!(limited.take("b", Purpose::First).is_none());
    }

    #[test]
    fn of_several_upstreams_none_gets_more_than_half() {
        let shared = permits(10, &[("a", 64), ("b", 64), ("c", 64)]);
        let a = shared.take_up_to(99, "a", Purpose::First);
        assert_eq!(a.len(), 5);
        let b = shared.take_up_to(99, "b", Purpose::First);
        assert_eq!((b.len(), shared.taken()), (5, 10));
        assert!(shared.take("c", Purpose::First).is_none());
        drop(a);
        assert_eq!(shared.take_up_to(99, "c", Purpose::First).len(), 5);
    }

    #[test]
    fn retries_leave_a_fifth_to_first_attempts() {
        let shared = permits(10, &[("a", 64)]);
        let mut retries = shared.take_up_to(99, "a", Purpose::PerhapsRetry);
        assert_eq!(retries.len(), 8);
        let first = shared.take_up_to(99, "a", Purpose::First);
        assert_eq!(first.len(), 2);
        // Three of the claimed were none: as many retries may follow once there are slots.
        retries.iter_mut().take(3).for_each(Permit::is_first_attempt);
        drop(first);
        assert_eq!(shared.take_up_to(99, "a", Purpose::PerhapsRetry).len(), 2);
        drop(retries);
        assert_eq!((shared.taken(), shared.0.retries.taken()), (0, 0));
    }

    #[test]
    fn a_single_slot_serves_retries_too() {
        assert!(permits(1, &[("a", 1), ("b", 1)]).take("a", Purpose::PerhapsRetry).is_some());
    }

    #[test]
    fn only_who_wants_a_permit_is_told_of_one() {
        let shared = permits(1, &[("a", 1)]);
        drop(shared.take("a", Purpose::First));
        assert!(shared.freed().now_or_never().is_none());
        let taken = shared.take("a", Purpose::First);
        shared.want();
        drop(taken);
        assert!(shared.freed().now_or_never().is_some());
    }
}
