//! The limits of one upstream or queue, on this node and across nodes.
//!
//! Owns the slots and tokens that nodes divide among them, and this node's part. Its invariant: where
//! nodes share a limit, the node uses nothing before it is granted.

use std::sync::Arc;

use super::permits::{LimitUsage, PermitRefusal};
use super::rate_limiter::{RateGrant, RateLimiter, Token};
use super::slot_pool::{AcquirePriority, PoolSlot, SlotPool};
use cloakroom_domain::Timestamp;
use cloakroom_domain::fair_share::LimitKind;
use cloakroom_domain::limit::Rate;
use cloakroom_ledger::{Asked, Divided, Emptied, LimitName};

/// The limits of an upstream or a queue.
#[derive(Debug)]
pub(super) struct LimitSet {
    in_flight: Arc<SlotPool>,
    // Over all nodes.
    max_in_flight: u64,
    rate: Option<Arc<RateLimiter>>,
    shared: bool,
}

impl LimitSet {
    pub(super) fn of(most: usize, max_in_flight: u64, rate: Option<Rate>, now: Timestamp) -> Self {
        let rate = rate.map(|rate| RateLimiter::of(rate, now));
        Self { in_flight: SlotPool::of(most), max_in_flight, rate, shared: false }
    }

    /// Divided among several nodes: there is nothing before it is granted.
    pub(super) fn shared(self, now: Timestamp) -> Self {
        self.in_flight.grant(0, false);
        let rate = self.rate.map(|limiter| RateLimiter::none_of(limiter.rate(), now));
        Self { rate, shared: true, ..self }
    }

    /// What this node uses and would use; `of` an upstream or a queue of that name.
    pub(super) fn demand(&self, of: [LimitKind; 2], name: &Arc<str>, now: Timestamp) -> Vec<Asked> {
        if !self.shared {
            return Vec::new();
        }
        let [in_flight, rate] = of.map(|kind| LimitName { kind, name: Arc::clone(name) });
        let pool = &self.in_flight;
        let used = pool.taken() as u64;
        let limit = self.max_in_flight;
        let (holds, needs) = (used.max(pool.limit() as u64), pool.demand() as u64);
        let rate = self.rate.as_ref().map(|limiter| {
            let (holds, needs) = limiter.demand(now);
            Asked { of: rate, limit: limiter.rate().in_an_hour(), holds, needs, used }
        });
        let in_flight = Asked { of: in_flight, limit, holds, needs, used };
        std::iter::once(in_flight).chain(rate).collect()
    }

    /// Begins no attempt before it is known what a former start has left of the rate.
    pub(super) fn withhold_rate(&self) {
        if let Some(limiter) = &self.rate {
            limiter.withhold();
        }
    }

    /// Goes on with the rate where a former start ended, if it is not divided.
    pub(super) fn resume_rate(&self, of: &LimitName, emptied: &Emptied, now: Timestamp) {
        if let (Some(limiter), false) = (&self.rate, self.shared) {
            limiter.resume(emptied.of(of), now);
        }
    }

    /// Whether attempts keep to a rate.
    pub(super) const fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// When the bucket of its rate would have been empty, had nothing been taken since.
    pub(super) fn was_empty_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.rate.as_ref().and_then(|limiter| limiter.was_empty_at(now))
    }

    /// Takes what was granted; whether that is more than before. `emptied` is known with the
    /// first grant since the start.
    pub(super) fn grant(
        &self,
        asked: &Asked,
        divided: &Divided,
        emptied: Option<&Emptied>,
        now: Timestamp,
    ) -> bool {
        let share = divided.share;
        // Where others owe it something, it is asked for again without that.
        let exhausted = share.may < asked.needs;
        match divided.of.kind {
            LimitKind::QueueInFlight | LimitKind::UpstreamInFlight => {
                let may = usize::try_from(share.may).unwrap_or(usize::MAX);
                self.in_flight.grant(may, exhausted)
            }
            LimitKind::QueueRate | LimitKind::UpstreamRate => {
                let (Some(limiter), Some(rate)) = (&self.rate, Rate::hourly(share.limit)) else {
                    return false;
                };
                let emptied = emptied.filter(|_| share.alone);
                let emptied_at = emptied.map(|emptied| emptied.of(&divided.of));
                limiter.grant(rate, share.may, RateGrant { emptied_at, exhausted }, now)
            }
        }
    }

    pub(super) fn note_shortage(&self, wanted: usize) -> bool {
        let rate = self.rate.as_ref().is_some_and(|limiter| limiter.note_shortage(wanted));
        self.in_flight.note_shortage(wanted) || rate
    }

    /// Nothing any more of what is divided, before it is granted anew.
    pub(super) fn suspend(&self, now: Timestamp) {
        if !self.shared {
            return;
        }
        self.in_flight.grant(0, false);
        if let Some(limiter) = &self.rate {
            limiter.grant(limiter.rate(), 0, RateGrant::default(), now);
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.in_flight.is_whole() && self.rate.as_ref().is_none_or(|limiter| limiter.is_whole())
    }

    pub(super) fn release_reserved(&self) {
        self.in_flight.release_reserved();
        if let Some(rate) = &self.rate {
            rate.release_reserved();
        }
    }

    pub(super) fn forget_refusals(&self) {
        self.in_flight.forget_refusals();
        if let Some(rate) = &self.rate {
            rate.forget_refusals();
        }
    }

    pub(super) fn in_use(&self) -> LimitUsage {
        LimitUsage { running: self.in_flight.taken(), limit: self.in_flight.limit() }
    }
}

/// The shared limits that an attempt needs.
pub(super) struct SharedLimits<'a> {
    pub(super) upstream: &'a LimitSet,
    pub(super) queue: Option<&'a LimitSet>,
}

impl SharedLimits<'_> {
    pub(super) fn in_flight_slots(
        &self,
        priority: AcquirePriority,
    ) -> Result<[Option<PoolSlot>; 2], PermitRefusal> {
        let acquire =
            |limits: &LimitSet| limits.in_flight.take(priority).ok_or(PermitRefusal::Full);
        let upstream = acquire(self.upstream)?;
        Ok([Some(upstream), self.queue.map(acquire).transpose()?])
    }

    pub(super) fn tokens(
        &self,
        priority: AcquirePriority,
        now: Timestamp,
    ) -> Result<[Option<Token>; 2], PermitRefusal> {
        let token =
            |limiter: &Arc<RateLimiter>| limiter.take(priority, now).map_err(PermitRefusal::Until);
        let of_queue = self.queue.and_then(|queue| queue.rate.as_ref());
        let of_queue = of_queue.map(token).transpose()?;
        Ok([of_queue, self.upstream.rate.as_ref().map(token).transpose()?])
    }

    /// So many would have been of use. Whether it is worth asking other nodes for them.
    pub(super) fn note_shortage(&self, wanted: usize) -> bool {
        let upstream = self.upstream.note_shortage(wanted);
        self.queue.is_some_and(|queue| queue.note_shortage(wanted)) || upstream
    }
}
