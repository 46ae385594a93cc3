//! How much may run at once, and begin in a time.
//!
//! Owns what limits an attempt on this node: the slots and their sharing between
//! upstreams, queues, and first attempts and retries; the rates; and the doors to the
//! upstreams. Its invariant: no count is ever above its limit, and every permit gives back
//! exactly what it took by the time it is dropped. It must not know what runs.
//!
//! An attempt is in flight for its upstream and its queue until it has ended, and has its
//! slot until what came of it is written down: how long the ledger takes is not their
//! limit, and what the ledger has not yet got is limited by the slots.
//!
//! A part of the slots is kept for first attempts. Whether a claimed operation is a
//! retry shows only once it is claimed, so a claim takes permits of the retries' share
//! and [`Permit::is_first_attempt`] hands that part back. Retries therefore never have
//! the part that is kept, while first attempts may fill every slot. What is handed over
//! at acceptance is a first attempt from the beginning, and what a client waits for on
//! the line counts as one.
//!
//! What the nodes of a ledger share, one node has no part in before it is granted one, and
//! [`Permits::stakes`] tells what it uses and would use. A part that is taken back is left
//! as its attempts end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::door::{Door, Passage};
use super::limits::{Limits, Shared};
use super::pace::Token;
use super::share::{Asker, Seat, Share};
use super::{Settings, jobs};
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::{Sign, State};
use cloakroom_domain::division::{Kind, UNLIMITED};
use cloakroom_domain::operation::Lane;
use cloakroom_ledger::{Asked, Divided, Emptied, LimitName};

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
    // Told when something is refused that other nodes may have.
    short: Notify,
    // How often what was granted has become void.
    voided: AtomicU64,
    // How many attempts have begun that a client waits for.
    on_the_line: AtomicU64,
    gauge: metrics::Gauge,
}

/// What limits an upstream, and whether it is called at all.
#[derive(Debug)]
struct Gate {
    limits: Limits,
    /// Of the slots, where there are several upstreams.
    share: Option<Arc<Share>>,
    door: Arc<Door>,
}

/// How much of a limit is in use on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Attempts that run.
    pub running: usize,
    /// How many may.
    pub limit: usize,
}

/// What this node uses and would use.
#[derive(Debug)]
pub(super) struct Stakes {
    pub(super) asked: Vec<Asked>,
    voided: u64,
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
    /// The same of what has waited for too long.
    Overdue,
    /// An attempt in quarantine, which has a slot of its own.
    Alone,
}

impl Purpose {
    const fn asker(self) -> Asker {
        match self {
            Self::HandedOver => Asker::Newcomer,
            Self::OnTheLine => Asker::OnTheLine,
            Self::PerhapsRetry => Asker::InLine,
            Self::Overdue => Asker::Overdue,
            Self::Alone => Asker::Alone,
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
    /// In its upstream and its queue, while it is in flight.
    seats: [Option<Seat>; 2],
    _slots: [Option<Seat>; 2],
    tokens: [Option<Token>; 2],
    // Dropped last: whoever is told finds the rest given back.
    out: Out,
}

/// Counts a permit, and tells who waits for one when it is given back.
#[derive(Debug)]
struct Out(Arc<Slots>);

impl Permits {
    /// The slots and limits of these settings. Where they are `shared` with other nodes,
    /// there is nothing before it is granted; else every rate's bucket is full.
    pub(super) fn new(settings: &Settings, shared: bool, now: Timestamp) -> Self {
        let slots = settings.slots;
        let of_slots = |percent: u8| slots * usize::from(percent) / 100;
        let alone = settings.upstreams.len() <= 1;
        let most = if alone { slots } else { of_slots(settings.max_share).max(1) };
        let upstreams = settings.upstreams.iter().map(|(name, it)| {
            let max = it.max_in_flight;
            let limits = Limits::of(most.min(max as usize), u64::from(max), it.rate, now);
            let limits = if shared { limits.shared(now) } else { limits };
            let share = (!alone).then(|| Share::of(most));
            (Arc::clone(name), Gate { limits, share, door: Door::to(name) })
        });
        let mut upstreams: HashMap<Arc<str>, Gate> = upstreams.collect();
        // Jobs of the gateway's own are limited on each node by itself.
        upstreams.entry(jobs::OWN.into()).or_insert_with(|| {
            let limits = Limits::of(slots.min(jobs::AT_ONCE as usize), UNLIMITED, None, now);
            Gate { limits, share: None, door: Door::to(&jobs::OWN.into()) }
        });
        let queues = settings.queues.iter().map(|(name, it)| {
            let in_flight = it.max_in_flight.map_or(slots, |limit| slots.min(limit as usize));
            let max = it.max_in_flight.map_or(UNLIMITED, u64::from);
            let limits = Limits::of(in_flight, max, it.rate, now);
            // Who does not work on a queue takes no part of it away from those who do.
            let works = settings.works_on.is_empty() || settings.works_on.contains(name);
            (Arc::clone(name), if shared && works { limits.shared(now) } else { limits })
        });
        Self(Arc::new(Slots {
            all: Share::of(slots),
            retries: Share::of((slots - of_slots(settings.first_attempts)).max(1)),
            upstreams,
            queues: queues.collect(),
            wanted: AtomicBool::new(false),
            freed: Notify::new(),
            short: Notify::new(),
            voided: AtomicU64::new(0),
            on_the_line: AtomicU64::new(0),
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
        self.take_one_of(1, lane, purpose, now)
    }

    /// The next of so many permits that are of use. What is short of one thing that nodes
    /// share is short of all: more of one alone would not help it.
    fn take_one_of(
        &self,
        wanted: usize,
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
        let shared = Shared { upstream: &gate.limits, queue };
        let asker = purpose.asker();
        let short = |refusal| {
            if shared.miss(wanted) {
                slots.short.notify_one();
            }
            refusal
        };
        let [upstream, queued] = shared.seats(asker).map_err(short)?;
        let seat = |share: &Arc<Share>| share.take(asker).ok_or(Refusal::Full);
        let beside = purpose != Purpose::Alone;
        let slot = beside.then(|| seat(&slots.all)).transpose()?;
        let share = gate.share.as_ref().filter(|_| beside).map(seat).transpose()?;
        let retry = matches!(purpose, Purpose::PerhapsRetry | Purpose::Overdue);
        let retries = retry.then(|| seat(&slots.retries)).transpose()?;
        let tokens = shared.tokens(asker, now).map_err(short)?;
        if purpose == Purpose::OnTheLine {
            slots.on_the_line.fetch_add(1, Ordering::SeqCst);
        }
        let out = Out::count(slots);
        Ok(Permit {
            passage,
            retries,
            seats: [upstream, queued],
            _slots: [slot, share],
            tokens,
            out,
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
            match self.take_one_of(limit - permits.len(), lane, purpose, now) {
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

    /// Whether attempts of that lane keep to a rate.
    pub(super) fn has_rate(&self, lane: &Lane) -> bool {
        let upstream = self.0.upstreams.get(&lane.upstream).map(|gate| &gate.limits);
        upstream.into_iter().chain(self.0.queues.get(&lane.queue)).any(Limits::has_rate)
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

    /// What this node uses and would use of the limits that all nodes share, since the last
    /// time this was asked.
    pub(super) fn stakes(&self, now: Timestamp) -> Stakes {
        let voided = self.0.voided.load(Ordering::SeqCst);
        let of_queue = [Kind::QueueInFlight, Kind::QueueRate];
        let of_upstream = [Kind::UpstreamInFlight, Kind::UpstreamRate];
        let queues = self.0.queues.iter().flat_map(|(name, it)| it.stakes(of_queue, name, now));
        let upstreams = self.0.upstreams.iter();
        let upstreams =
            upstreams.flat_map(|(name, gate)| gate.limits.stakes(of_upstream, name, now));
        Stakes { asked: queues.chain(upstreams).collect(), voided }
    }

    /// Takes what was granted for these stakes; nothing, if it has become void meanwhile.
    /// `emptied` comes with the first of all: what nobody else has is as former starts left
    /// it.
    pub(super) fn grant(
        &self,
        stakes: &Stakes,
        divided: &[Divided],
        emptied: Option<&Emptied>,
        now: Timestamp,
    ) {
        if self.0.voided.load(Ordering::SeqCst) != stakes.voided {
            return;
        }
        let mut more = false;
        for divided in divided {
            let asked = stakes.asked.iter().find(|asked| asked.of == divided.of);
            if let (Some(asked), Some(limits)) = (asked, self.0.limits(&divided.of)) {
                more |= limits.grant(asked, divided, emptied, now);
            }
        }
        // It may have become void in between.
        if self.0.voided.load(Ordering::SeqCst) != stakes.voided {
            self.0.each_limit(|limits| limits.suspend(now));
        } else if more {
            self.0.tell();
        }
    }

    /// What was granted is void: takes nothing any more of what all nodes share, before it
    /// is granted anew.
    pub(super) fn suspend(&self, now: Timestamp) {
        self.0.voided.fetch_add(1, Ordering::SeqCst);
        self.0.each_limit(|limits| limits.suspend(now));
    }

    /// Begins nothing that has a rate, before it is known what former starts left of it.
    pub(super) fn withhold_rates(&self) {
        self.0.each_limit(Limits::withhold_rate);
    }

    /// Goes on with rates that are not divided where former starts ended.
    pub(super) fn resume_rates(&self, emptied: &Emptied, now: Timestamp) {
        self.0.each_rate(|of, limits| limits.resume_rate(&of, emptied, now));
    }

    /// What is left of each rate: when its bucket would have been empty, had nothing been
    /// taken since.
    pub(super) fn emptied(&self, now: Timestamp) -> Vec<(LimitName, Timestamp)> {
        let mut emptied = Vec::new();
        self.0.each_rate(|of, limits| {
            emptied.extend(limits.was_empty_at(now).map(|then| (of, then)));
        });
        emptied
    }

    /// Whether this node may use all that is of use to it.
    pub(super) fn is_whole(&self) -> bool {
        let mut whole = true;
        self.0.each_limit(|limits| whole &= limits.is_whole());
        whole
    }

    /// Completes when something was refused that other nodes may have.
    pub(super) async fn short(&self) {
        self.0.short.notified().await;
    }

    /// Keeps nothing any more for who runs alone: nobody does, or it asks again now.
    pub(super) fn keep_nothing(&self) {
        self.0.each_limit(Limits::keep_nothing);
    }

    /// Nobody waits for a permit any more.
    pub(super) fn want_none(&self) {
        self.0.call_up();
    }

    /// How many permits have been given out for what a client waits for.
    pub(super) fn on_the_line(&self) -> u64 {
        self.0.on_the_line.load(Ordering::SeqCst)
    }

    /// Asks to be told of the next permit that is given back, and calls up all who were
    /// refused one before. Ask first, then take: a permit given back in between is then
    /// not missed.
    pub(super) fn want(&self) {
        let slots = &self.0;
        slots.wanted.store(true, Ordering::SeqCst);
        slots.call_up();
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
    /// Forgets who was refused.
    fn call_up(&self) {
        self.all.call_up();
        self.retries.call_up();
        self.upstreams.values().flat_map(|gate| &gate.share).for_each(|share| share.call_up());
        self.each_limit(Limits::call_up);
    }

    fn each_limit(&self, mut see_to: impl FnMut(&Limits)) {
        self.upstreams.values().for_each(|gate| see_to(&gate.limits));
        self.queues.values().for_each(see_to);
    }

    fn each_rate(&self, mut see_to: impl FnMut(LimitName, &Limits)) {
        let of = |kind, name: &Arc<str>| LimitName { kind, name: Arc::clone(name) };
        for (name, gate) in &self.upstreams {
            see_to(of(Kind::UpstreamRate, name), &gate.limits);
        }
        for (name, limits) in &self.queues {
            see_to(of(Kind::QueueRate, name), limits);
        }
    }

    fn limits(&self, of: &LimitName) -> Option<&Limits> {
        match of.kind {
            Kind::QueueInFlight | Kind::QueueRate => self.queues.get(&of.name),
            Kind::UpstreamInFlight | Kind::UpstreamRate => {
                self.upstreams.get(&of.name).map(|gate| &gate.limits)
            }
        }
    }

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

    /// The attempt has ended, and says this about its upstream, if anything. It is not in
    /// flight any more.
    pub(super) fn ended(&mut self, sign: Option<Sign>, now: Timestamp) {
        self.passage.ended(sign, now);
        self.seats = [None, None];
        self.out.0.tell();
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
