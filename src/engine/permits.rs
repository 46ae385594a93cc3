//! Permits: the right to run one attempt.
//!
//! Owns every limit on attempts of this node: its slots and their division between upstreams, queues,
//! first attempts and retries; the rates; and the circuit breakers of the upstreams. Its invariant: no
//! count exceeds its limit, and a dropped permit returns exactly what it took. It must not know what
//! runs.
//!
//! An attempt counts as in flight for its upstream and queue until it ends. It keeps its slot until
//! its result is in the ledger: a slow ledger does not use up their limits, and the slots bound how
//! much the ledger still has to write.
//!
//! A part of the slots is reserved for first attempts. Whether an operation is a retry shows only once
//! it is claimed. So a claim takes its permits from the retries' part, and
//! [`Permit::is_first_attempt`] returns that part. Retries therefore never use the reserved part,
//! while first attempts may use every slot. A handed-off operation is always a first attempt, and an
//! operation whose client waits for the response counts as one.
//!
//! A limit that nodes share gives a node nothing until it is granted a part. [`Permits::demand`]
//! reports what the node uses and could use. When a part is taken back, running attempts finish
//! first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::limits::{LimitSet, SharedLimits};
use super::rate_limiter::Token;
use super::slot_pool::{AcquirePriority, PoolSlot, SlotPool};
use super::upstream_breaker::{Admission, UpstreamBreaker};
use super::{EngineSettings, jobs};
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::{BreakerPhase, HealthSignal};
use cloakroom_domain::fair_share::{LimitKind, UNLIMITED};
use cloakroom_domain::operation::Lane;
use cloakroom_ledger::{Asked, Divided, Emptied, LimitName};

/// The slots of this node and what limits their use. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Permits(Arc<PermitPools>);

#[derive(Debug)]
struct PermitPools {
    all: Arc<SlotPool>,
    retries: Arc<SlotPool>,
    upstreams: HashMap<Arc<str>, UpstreamLimiter>,
    queues: HashMap<Arc<str>, LimitSet>,
    // Whether a caller waits for a permit; without one, a release wakes no task.
    wanted: AtomicBool,
    freed: Notify,
    // Told when something is refused that other nodes may have.
    short: Notify,
    // How often what was granted has become void.
    voided: AtomicU64,
    // How many attempts have begun that a client waits for.
    express_permits: AtomicU64,
    gauge: metrics::Gauge,
}

/// What limits an upstream, and whether it is called at all.
#[derive(Debug)]
struct UpstreamLimiter {
    limits: LimitSet,
    /// Of the slots, where there are several upstreams.
    pool: Option<Arc<SlotPool>>,
    breaker: Arc<UpstreamBreaker>,
}

/// How much of a limit is in use on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitUsage {
    /// Attempts that run.
    pub running: usize,
    /// How many may.
    pub limit: usize,
}

/// What this node uses of shared limits, and could use.
#[derive(Debug)]
pub(super) struct LimitDemand {
    pub(super) asked: Vec<Asked>,
    voided: u64,
}

/// The purpose of a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermitPurpose {
    /// An attempt whose client waits for the response.
    Express,
    /// The first attempt of a new operation.
    Handoff,
    /// An attempt of a claimed operation, perhaps a retry.
    Claim,
    /// The same, of an operation that has waited too long.
    Overdue,
    /// An attempt in quarantine, which has a slot of its own.
    Quarantine,
}

impl PermitPurpose {
    const fn priority(self) -> AcquirePriority {
        match self {
            Self::Handoff => AcquirePriority::Handoff,
            Self::Express => AcquirePriority::Express,
            Self::Claim => AcquirePriority::Waiting,
            Self::Overdue => AcquirePriority::Overdue,
            Self::Quarantine => AcquirePriority::Quarantine,
        }
    }
}

/// The reason why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermitRefusal {
    /// The limit is reached; [`Permits::freed`] completes when a permit returns.
    Full,
    /// A rate or a breaker refuses until then.
    Until(Timestamp),
    /// There is no such upstream.
    Unknown,
}

/// The right to run one attempt; dropped, it is free again.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Admission,
    retries: Option<PoolSlot>,
    /// In its upstream and its queue, while it is in flight.
    in_flight: [Option<PoolSlot>; 2],
    _node_slots: [Option<PoolSlot>; 2],
    tokens: [Option<Token>; 2],
    // Dropped last: the woken caller finds the rest returned.
    out: PermitCount,
}

/// Counts a permit, and wakes the waiting caller when it returns.
#[derive(Debug)]
struct PermitCount(Arc<PermitPools>);

impl Permits {
    /// The slots and limits of these settings. Where they are `shared` with other nodes,
    /// there is nothing before it is granted; else every rate's bucket is full.
    pub(super) fn new(settings: &EngineSettings, shared: bool, now: Timestamp) -> Self {
        let slots = settings.slots;
        let of_slots = |percent: u8| slots * usize::from(percent) / 100;
        let alone = settings.upstreams.len() <= 1;
        let most = if alone { slots } else { of_slots(settings.max_share).max(1) };
        let upstreams = settings.upstreams.iter().map(|(name, it)| {
            let max = it.max_in_flight;
            let limits = LimitSet::of(most.min(max as usize), u64::from(max), it.rate, now);
            let limits = if shared { limits.shared(now) } else { limits };
            let pool = (!alone).then(|| SlotPool::of(most));
            (Arc::clone(name), UpstreamLimiter { limits, pool, breaker: UpstreamBreaker::to(name) })
        });
        let mut upstreams: HashMap<Arc<str>, UpstreamLimiter> = upstreams.collect();
        // Jobs of the gateway's own are limited on each node by itself.
        upstreams.entry(jobs::OWN.into()).or_insert_with(|| {
            let limits = LimitSet::of(slots.min(jobs::AT_ONCE as usize), UNLIMITED, None, now);
            UpstreamLimiter { limits, pool: None, breaker: UpstreamBreaker::to(&jobs::OWN.into()) }
        });
        let queues = settings.queues.iter().map(|(name, it)| {
            let in_flight = it.max_in_flight.map_or(slots, |limit| slots.min(limit as usize));
            let max = it.max_in_flight.map_or(UNLIMITED, u64::from);
            let limits = LimitSet::of(in_flight, max, it.rate, now);
            // Who does not work on a queue takes no part of it away from those who do.
            let works = settings.works_on.is_empty() || settings.works_on.contains(name);
            (Arc::clone(name), if shared && works { limits.shared(now) } else { limits })
        });
        Self(Arc::new(PermitPools {
            all: SlotPool::of(slots),
            retries: SlotPool::of((slots - of_slots(settings.first_attempts)).max(1)),
            upstreams,
            queues: queues.collect(),
            wanted: AtomicBool::new(false),
            freed: Notify::new(),
            short: Notify::new(),
            voided: AtomicU64::new(0),
            express_permits: AtomicU64::new(0),
            gauge: metrics::gauge!("cloakroom_operations_running"),
        }))
    }

    /// A permit for an attempt of that lane, if nothing stands against it.
    pub(super) fn take(
        &self,
        lane: &Lane,
        purpose: PermitPurpose,
        now: Timestamp,
    ) -> Result<Permit, PermitRefusal> {
        self.take_one_of(1, lane, purpose, now)
    }

    /// The next of so many permits that are of use. What is short of one thing that nodes
    /// share is short of all: more of one alone would not help it.
    fn take_one_of(
        &self,
        wanted: usize,
        lane: &Lane,
        purpose: PermitPurpose,
        now: Timestamp,
    ) -> Result<Permit, PermitRefusal> {
        let pools = &self.0;
        let gate = pools.upstreams.get(&lane.upstream).ok_or(PermitRefusal::Unknown)?;
        // What was accepted before its queue was taken out of the configuration.
        let queue = pools.queues.get(&lane.queue);
        // First: where the upstream is down, all else is left to others.
        let admission = gate.breaker.admit(now).map_err(PermitRefusal::Until)?;
        let shared = SharedLimits { upstream: &gate.limits, queue };
        let priority = purpose.priority();
        let short = |refusal| {
            if shared.note_shortage(wanted) {
                pools.short.notify_one();
            }
            refusal
        };
        let [upstream, queued] = shared.in_flight_slots(priority).map_err(short)?;
        let acquire = |pool: &Arc<SlotPool>| pool.take(priority).ok_or(PermitRefusal::Full);
        let beside = purpose != PermitPurpose::Quarantine;
        let slot = beside.then(|| acquire(&pools.all)).transpose()?;
        let pool = gate.pool.as_ref().filter(|_| beside).map(acquire).transpose()?;
        let retry = matches!(purpose, PermitPurpose::Claim | PermitPurpose::Overdue);
        let retries = retry.then(|| acquire(&pools.retries)).transpose()?;
        let tokens = shared.tokens(priority, now).map_err(short)?;
        if purpose == PermitPurpose::Express {
            pools.express_permits.fetch_add(1, Ordering::SeqCst);
        }
        let out = PermitCount::count(pools);
        Ok(Permit {
            admission,
            retries,
            in_flight: [upstream, queued],
            _node_slots: [slot, pool],
            tokens,
            out,
        })
    }

    /// As many permits as there are, at most `limit`, and what stood against another one.
    pub(super) fn take_up_to(
        &self,
        limit: usize,
        lane: &Lane,
        purpose: PermitPurpose,
        now: Timestamp,
    ) -> (Vec<Permit>, Option<PermitRefusal>) {
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
        upstream.into_iter().chain(self.0.queues.get(&lane.queue)).any(LimitSet::has_rate)
    }

    /// How many permits are out.
    pub(super) fn taken(&self) -> usize {
        self.0.all.taken()
    }

    /// How much of a queue's limit is in use.
    pub(super) fn of_queue(&self, queue: &str) -> Option<LimitUsage> {
        self.0.queues.get(queue).map(LimitSet::in_use)
    }

    /// How much of an upstream's limit is in use, and how its breaker stands.
    pub(super) fn of_upstream(&self, upstream: &str) -> Option<(LimitUsage, BreakerPhase)> {
        self.0.upstreams.get(upstream).map(|gate| (gate.limits.in_use(), gate.breaker.state()))
    }

    /// What this node uses and would use of the limits that all nodes share, since the last
    /// time this was asked.
    pub(super) fn demand(&self, now: Timestamp) -> LimitDemand {
        let voided = self.0.voided.load(Ordering::SeqCst);
        let of_queue = [LimitKind::QueueInFlight, LimitKind::QueueRate];
        let of_upstream = [LimitKind::UpstreamInFlight, LimitKind::UpstreamRate];
        let queues = self.0.queues.iter().flat_map(|(name, it)| it.demand(of_queue, name, now));
        let upstreams = self.0.upstreams.iter();
        let upstreams =
            upstreams.flat_map(|(name, gate)| gate.limits.demand(of_upstream, name, now));
        LimitDemand { asked: queues.chain(upstreams).collect(), voided }
    }

    /// Takes what was granted for these demand; nothing, if it has become void meanwhile.
    /// `emptied` comes with the first grant: parts that no other node has are as earlier
    /// processes left them.
    pub(super) fn grant(
        &self,
        demand: &LimitDemand,
        divided: &[Divided],
        emptied: Option<&Emptied>,
        now: Timestamp,
    ) {
        if self.0.voided.load(Ordering::SeqCst) != demand.voided {
            return;
        }
        let mut more = false;
        for divided in divided {
            let asked = demand.asked.iter().find(|asked| asked.of == divided.of);
            if let (Some(asked), Some(limits)) = (asked, self.0.limits(&divided.of)) {
                more |= limits.grant(asked, divided, emptied, now);
            }
        }
        // It may have become void in between.
        if self.0.voided.load(Ordering::SeqCst) != demand.voided {
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
        self.0.each_limit(LimitSet::withhold_rate);
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

    /// Ends all reservations for quarantine.
    pub(super) fn release_reserved(&self) {
        self.0.each_limit(LimitSet::release_reserved);
    }

    /// No caller waits for a permit.
    pub(super) fn expect_no_release(&self) {
        self.0.forget_refusals();
    }

    /// How many permits attempts got whose client waits for the response.
    pub(super) fn express_permits(&self) -> u64 {
        self.0.express_permits.load(Ordering::SeqCst)
    }

    /// Asks to be told of the next permit that is given back, and calls up all who were
    /// refused one before. Ask first, then take: a permit given back in between is then
    /// not missed.
    pub(super) fn expect_release(&self) {
        let pools = &self.0;
        pools.wanted.store(true, Ordering::SeqCst);
        pools.forget_refusals();
    }

    /// Wakes the caller that waits for a permit, after another one went without.
    pub(super) fn wake_waiting(&self) {
        self.0.tell();
    }

    /// Completes when a permit was given back after [`Permits::expect_release`].
    pub(super) async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl PermitPools {
    /// Forgets refusals.
    fn forget_refusals(&self) {
        self.all.forget_refusals();
        self.retries.forget_refusals();
        self.upstreams.values().flat_map(|gate| &gate.pool).for_each(|pool| pool.forget_refusals());
        self.each_limit(LimitSet::forget_refusals);
    }

    fn each_limit(&self, mut see_to: impl FnMut(&LimitSet)) {
        self.upstreams.values().for_each(|gate| see_to(&gate.limits));
        self.queues.values().for_each(see_to);
    }

    fn each_rate(&self, mut see_to: impl FnMut(LimitName, &LimitSet)) {
        let of = |kind, name: &Arc<str>| LimitName { kind, name: Arc::clone(name) };
        for (name, gate) in &self.upstreams {
            see_to(of(LimitKind::UpstreamRate, name), &gate.limits);
        }
        for (name, limits) in &self.queues {
            see_to(of(LimitKind::QueueRate, name), limits);
        }
    }

    fn limits(&self, of: &LimitName) -> Option<&LimitSet> {
        match of.kind {
            LimitKind::QueueInFlight | LimitKind::QueueRate => self.queues.get(&of.name),
            LimitKind::UpstreamInFlight | LimitKind::UpstreamRate => {
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
    pub(super) fn ended(&mut self, sign: Option<HealthSignal>, now: Timestamp) {
        self.admission.ended(sign, now);
        self.in_flight = [None, None];
        self.out.0.tell();
    }
}

impl PermitCount {
    fn count(pools: &Arc<PermitPools>) -> Self {
        pools.gauge.increment(1.0);
        Self(Arc::clone(pools))
    }
}

impl Drop for PermitCount {
    fn drop(&mut self) {
        self.0.gauge.decrement(1.0);
        self.0.tell();
    }
}

#[cfg(test)]
#[path = "permits_tests.rs"]
mod tests;
