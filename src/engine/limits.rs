//! What limits the attempts of one upstream or queue, on this node and over all.
//!
//! Owns the seats and tokens that nodes divide among them, and what this node makes of its
//! part. Its invariant: where nodes share a limit, nothing is given before it was granted.

use std::sync::Arc;

use super::pace::{Pace, Part, Token};
use super::permits::{InUse, Refusal};
use super::share::{Asker, Seat, Share};
use cloakroom_domain::Timestamp;
use cloakroom_domain::division::Kind;
use cloakroom_domain::limit::Rate;
use cloakroom_ledger::{Asked, Divided, Emptied, LimitName};

/// What limits an upstream or a queue.
#[derive(Debug)]
pub(super) struct Limits {
    in_flight: Arc<Share>,
    // Over all nodes.
    max_in_flight: u64,
    rate: Option<Arc<Pace>>,
    shared: bool,
}

impl Limits {
    pub(super) fn of(most: usize, max_in_flight: u64, rate: Option<Rate>, now: Timestamp) -> Self {
        let rate = rate.map(|rate| Pace::of(rate, now));
        Self { in_flight: Share::of(most), max_in_flight, rate, shared: false }
    }

    /// Divided among several nodes: there is nothing before it is granted.
    pub(super) fn shared(self, now: Timestamp) -> Self {
        self.in_flight.grant(0, false);
        let rate = self.rate.map(|pace| Pace::none_of(pace.rate(), now));
        Self { rate, shared: true, ..self }
    }

    /// What this node uses and would use; `of` an upstream or a queue of that name.
    pub(super) fn stakes(&self, of: [Kind; 2], name: &Arc<str>, now: Timestamp) -> Vec<Asked> {
        if !self.shared {
            return Vec::new();
        }
        let [in_flight, rate] = of.map(|kind| LimitName { kind, name: Arc::clone(name) });
        let share = &self.in_flight;
        let used = share.taken() as u64;
        let limit = self.max_in_flight;
        let (holds, needs) = (used.max(share.limit() as u64), share.demand() as u64);
        let rate = self.rate.as_ref().map(|pace| {
            let (holds, needs) = pace.demand(now);
            Asked { of: rate, limit: pace.rate().in_an_hour(), holds, needs, used }
        });
        let in_flight = Asked { of: in_flight, limit, holds, needs, used };
        std::iter::once(in_flight).chain(rate).collect()
    }

    /// Begins no attempt before it is known what a former start has left of the rate.
    pub(super) fn withhold_rate(&self) {
        if let Some(pace) = &self.rate {
            pace.withhold();
        }
    }

    /// Goes on with the rate where a former start ended, if it is not divided.
    pub(super) fn resume_rate(&self, of: &LimitName, emptied: &Emptied, now: Timestamp) {
        if let (Some(pace), false) = (&self.rate, self.shared) {
            pace.resume(emptied.of(of), now);
        }
    }

    /// Whether attempts keep to a rate.
    pub(super) const fn has_rate(&self) -> bool {
        self.rate.is_some()
    }

    /// When the bucket of its rate would have been empty, had nothing been taken since.
    pub(super) fn was_empty_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.rate.as_ref().and_then(|pace| pace.was_empty_at(now))
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
        let hopeless = share.may < asked.needs;
        match divided.of.kind {
            Kind::QueueInFlight | Kind::UpstreamInFlight => {
                let may = usize::try_from(share.may).unwrap_or(usize::MAX);
                self.in_flight.grant(may, hopeless)
            }
            Kind::QueueRate | Kind::UpstreamRate => {
                let (Some(pace), Some(rate)) = (&self.rate, Rate::hourly(share.limit)) else {
                    return false;
                };
                let emptied = emptied.filter(|_| share.alone);
                let emptied_at = emptied.map(|emptied| emptied.of(&divided.of));
                pace.grant(rate, share.may, Part { emptied_at, hopeless }, now)
            }
        }
    }

    pub(super) fn miss(&self, wanted: usize) -> bool {
        let rate = self.rate.as_ref().is_some_and(|pace| pace.miss(wanted));
        self.in_flight.miss(wanted) || rate
    }

    /// Nothing any more of what is divided, before it is granted anew.
    pub(super) fn suspend(&self, now: Timestamp) {
        if !self.shared {
            return;
        }
        self.in_flight.grant(0, false);
        if let Some(pace) = &self.rate {
            pace.grant(pace.rate(), 0, Part::default(), now);
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.in_flight.is_whole() && self.rate.as_ref().is_none_or(|pace| pace.is_whole())
    }

    pub(super) fn keep_nothing(&self) {
        self.in_flight.keep_nothing();
        if let Some(rate) = &self.rate {
            rate.keep_nothing();
        }
    }

    pub(super) fn call_up(&self) {
        self.in_flight.call_up();
        if let Some(rate) = &self.rate {
            rate.call_up();
        }
    }

    pub(super) fn in_use(&self) -> InUse {
        InUse { running: self.in_flight.taken(), limit: self.in_flight.limit() }
    }
}

/// What nodes share of that which an attempt needs.
pub(super) struct Shared<'a> {
    pub(super) upstream: &'a Limits,
    pub(super) queue: Option<&'a Limits>,
}

impl Shared<'_> {
    pub(super) fn seats(&self, asker: Asker) -> Result<[Option<Seat>; 2], Refusal> {
        let seat = |limits: &Limits| limits.in_flight.take(asker).ok_or(Refusal::Full);
        let upstream = seat(self.upstream)?;
        Ok([Some(upstream), self.queue.map(seat).transpose()?])
    }

    pub(super) fn tokens(
        &self,
        asker: Asker,
        now: Timestamp,
    ) -> Result<[Option<Token>; 2], Refusal> {
        let token = |pace: &Arc<Pace>| pace.take(asker, now).map_err(Refusal::Until);
        let of_queue = self.queue.and_then(|queue| queue.rate.as_ref());
        let of_queue = of_queue.map(token).transpose()?;
        Ok([of_queue, self.upstream.rate.as_ref().map(token).transpose()?])
    }

    /// So many would have been of use. Whether it is worth asking other nodes for them.
    pub(super) fn miss(&self, wanted: usize) -> bool {
        let upstream = self.upstream.miss(wanted);
        self.queue.is_some_and(|queue| queue.miss(wanted)) || upstream
    }
}
