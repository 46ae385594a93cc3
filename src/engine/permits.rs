//! How much may run at once, and begin in a time.
//!
//! Owns what limits an attempt on this node: the slots and their sharing between
//! upstreams, queues, and first attempts and retries; the rates; and the doors to the
//! upstreams. Its invariant: no count is ever above its limit, and every permit gives back
//! exactly what it took when it is dropped. It must not know what runs.
//!
//! A part of the slots is kept for first attempts. Whether a claimed operation is a
//! retry shows only once it is claimed, so a claim takes permits of the retries' share
//! and [`Permit::is_first_attempt`] hands that part back. Retries therefore never have
//! the part that is kept, while first attempts may fill every slot. What is handed over
//! at acceptance is a first attempt from the beginning, and what a client waits for on
//! the line counts as one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use super::Settings;
use super::door::{Door, Passage};
use super::pace::{Pace, Token};
use super::share::{Asker, Seat, Share};
use crate::domain::Timestamp;
use crate::domain::breaker::{Sign, State};
use crate::domain::limit::Rate;
use crate::domain::operation::Lane;

/// The slots of this node and what limits their use. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Permits(Arc<Slots>);

#[derive(Debug)]
struct Slots {
    all: Arc<Share>,
    retries: Arc<Share>,
    upstreams: HashMap<Arc<str>, Gate>,
    queues: HashMap<Arc<str>, Limits>,
    // Whether somebody waits for a permit; keeps every other release from waking anybody.
    wanted: AtomicBool,
    freed: Notify,
    gauge: metrics::Gauge,
}

/// What limits an upstream or a queue.
#[derive(Debug)]
struct Limits {
    in_flight: Arc<Share>,
    rate: Option<Arc<Pace>>,
}

/// What limits an upstream, and whether it is called at all.
#[derive(Debug)]
struct Gate {
    limits: Limits,
    door: Arc<Door>,
}

impl Limits {
    fn of(in_flight: usize, rate: Option<Rate>, now: Timestamp) -> Self {
        Self { in_flight: Share::of(in_flight), rate: rate.map(|rate| Pace::of(rate, now)) }
    }

    fn call_up(&self) {
        self.in_flight.call_up();
        if let Some(rate) = &self.rate {
            rate.call_up();
        }
    }

    fn in_use(&self) -> InUse {
        InUse { running: self.in_flight.taken(), limit: self.in_flight.limit() }
    }
}

/// How much of a limit is in use on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Attempts that run.
    pub running: usize,
    /// How many may.
    pub limit: usize,
}

/// What a permit is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An attempt that a client waits for on the line.
    OnTheLine,
    /// A first attempt of what has just been accepted.
    HandedOver,
    /// An attempt of what has waited, perhaps a retry.
    PerhapsRetry,
}

impl Purpose {
    const fn asker(self) -> Asker {
        match self {
            Self::HandedOver => Asker::Newcomer,
            Self::OnTheLine | Self::PerhapsRetry => Asker::InLine,
        }
    }
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many run as may; [`Permits::freed`] tells when one has ended.
    Full,
    /// A rate or a breaker: not before then.
    Until(Timestamp),
    /// There is no such upstream.
    Unknown,
}

/// The right to run one attempt; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Permit {
    passage: Passage,
    retries: Option<Seat>,
    _seats: [Option<Seat>; 3],
    tokens: [Option<Token>; 2],
    // Dropped last: whoever is told finds the rest given back.
    out: Out,
}

/// Counts a permit, and tells who waits for one when it is given back.
#[derive(Debug)]
struct Out(Arc<Slots>);

impl Permits {
    /// The slots and limits of these settings, with every rate's bucket full.
    pub(super) fn new(settings: &Settings, now: Timestamp) -> Self {
        let slots = settings.slots;
        let of_slots = |percent: u8| slots * usize::from(percent) / 100;
        let alone = settings.upstreams.len() <= 1;
        let most = if alone { slots } else { of_slots(settings.max_share).max(1) };
        let upstreams = settings.upstreams.iter().map(|(name, it)| {
            let limits = Limits::of(most.min(it.max_in_flight as usize), it.rate, now);
            (Arc::clone(name), Gate { limits, door: Door::to(name) })
        });
        let queues = settings.queues.iter().map(|(name, it)| {
            let in_flight = it.max_in_flight.map_or(slots, |limit| slots.min(limit as usize));
            (Arc::clone(name), Limits::of(in_flight, it.rate, now))
        });
        Self(Arc::new(Slots {
            all: Share::of(slots),
            retries: Share::of((slots - of_slots(settings.first_attempts)).max(1)),
            upstreams: upstreams.collect(),
            queues: queues.collect(),
            wanted: AtomicBool::new(false),
            freed: Notify::new(),
            gauge: metrics::gauge!("cloakroom_operations_running"),
        }))
    }

    /// A permit for an attempt of that lane, if nothing stands against it.
    pub(super) fn take(
        &self,
        lane: &Lane,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Permit, Refusal> {
        let slots = &self.0;
        let gate = slots.upstreams.get(&lane.upstream).ok_or(Refusal::Unknown)?;
        // What was accepted before its queue was taken out of the configuration.
        let queue = slots.queues.get(&lane.queue);
        // First: where the upstream is down, all else is left to others.
        let passage = gate.door.pass(now).map_err(Refusal::Until)?;
        let asker = purpose.asker();
        let seat = |share: &Arc<Share>| share.take(asker).ok_or(Refusal::Full);
        let upstream = seat(&gate.limits.in_flight)?;
        let queued = queue.map(|queue| seat(&queue.in_flight)).transpose()?;
        let slot = seat(&slots.all)?;
        let retry = purpose == Purpose::PerhapsRetry;
        let retries = retry.then(|| seat(&slots.retries)).transpose()?;
        let token = |pace: &Arc<Pace>| pace.take(asker, now).map_err(Refusal::Until);
        let of_queue = queue.and_then(|queue| queue.rate.as_ref()).map(token).transpose()?;
        let of_upstream = gate.limits.rate.as_ref().map(token).transpose()?;
        Ok(Permit {
            passage,
            retries,
            _seats: [Some(upstream), queued, Some(slot)],
            tokens: [of_queue, of_upstream],
            out: Out::count(slots),
        })
    }

    /// As many permits as there are, at most `limit`, and what stood against another one.
    pub(super) fn take_up_to(
        &self,
        limit: usize,
        lane: &Lane,
        purpose: Purpose,
        now: Timestamp,
    ) -> (Vec<Permit>, Option<Refusal>) {
        let mut permits = Vec::new();
        while permits.len() < limit {
            match self.take(lane, purpose, now) {
                Ok(permit) => permits.push(permit),
                Err(refusal) => return (permits, Some(refusal)),
            }
        }
        (permits, None)
    }

    /// Whether an upstream of that name has slots at all.
    pub(super) fn knows(&self, upstream: &str) -> bool {
        self.0.upstreams.contains_key(upstream)
    }

    /// How many permits are out.
    pub(super) fn taken(&self) -> usize {
        self.0.all.taken()
    }

    /// How much of a queue's limit is in use.
    pub(super) fn of_queue(&self, queue: &str) -> Option<InUse> {
        self.0.queues.get(queue).map(Limits::in_use)
    }

    /// How much of an upstream's limit is in use, and how its breaker stands.
    pub(super) fn of_upstream(&self, upstream: &str) -> Option<(InUse, State)> {
        self.0.upstreams.get(upstream).map(|gate| (gate.limits.in_use(), gate.door.state()))
    }

    /// Asks to be told of the next permit that is given back, and calls up all who were
    /// refused one before. Ask first, then take: a permit given back in between is then
    /// not missed.
    pub(super) fn want(&self) {
        let slots = &self.0;
        slots.wanted.store(true, Ordering::SeqCst);
        slots.all.call_up();
        slots.upstreams.values().for_each(|gate| gate.limits.call_up());
        slots.queues.values().for_each(Limits::call_up);
    }

    /// Tells who waits for a permit that somebody else went without one.
    pub(super) fn given_up(&self) {
        self.0.tell();
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
        if self.retries.take().is_some() {
            self.out.0.tell();
        }
    }

    /// The attempt begins: it counts for the rates.
    pub(super) fn begins(&mut self) {
        self.tokens.iter_mut().flatten().for_each(Token::used);
    }

    /// The attempt has ended, and says this about its upstream, if anything.
    pub(super) fn ended(&mut self, sign: Option<Sign>, now: Timestamp) {
        self.passage.ended(sign, now);
    }
}

impl Out {
    fn count(slots: &Arc<Slots>) -> Self {
        slots.gauge.increment(1.0);
        Self(Arc::clone(slots))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.0.gauge.decrement(1.0);
        self.0.tell();
    }
}

#[cfg(test)]
#[path = "permits_tests.rs"]
mod tests;
