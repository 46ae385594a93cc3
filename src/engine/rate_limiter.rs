//! The rate limit of one upstream or queue.
//!
//! Owns one token bucket. Its invariant: a token returns if no attempt starts with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::slot_pool::AcquirePriority;
use cloakroom_domain::Timestamp;
use cloakroom_domain::limit::{Bucket, Rate};

/// The shortest wait for a token. A fast rate brings several in it, which are then claimed
/// together; the bucket holds a whole second's, so nothing is lost.
const BREATH: Duration = Duration::from_millis(10);
/// How soon to ask again without a part of the rate; a grant wakes the caller earlier.
const DRY: Duration = Duration::from_secs(1);

/// Enforces a rate, or this node's part of it.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// The whole rate.
    rate: Rate,
    state: Mutex<RateState>,
    has_waiters: AtomicBool,
    // One token is reserved for quarantine.
    reserved: AtomicBool,
}

#[derive(Debug)]
struct RateState {
    // None while there is no part.
    bucket: Option<Bucket>,
    parts: u64,
    // Since the last report.
    used: u64,
    looked_at: Timestamp,
    // What was refused since all who wait asked last.
    shortage: u64,
    // As many parts were granted as there are to be had.
    exhausted: bool,
}

impl RateLimiter {
    /// The whole of a rate.
    pub(super) fn of(rate: Rate, now: Timestamp) -> Arc<Self> {
        Self::with(rate, Some(Bucket::full(rate, now)), now)
    }

    /// Nothing of a rate, before this node is granted a part of it.
    pub(super) fn none_of(rate: Rate, now: Timestamp) -> Arc<Self> {
        Self::with(rate, None, now)
    }

    fn with(rate: Rate, bucket: Option<Bucket>, now: Timestamp) -> Arc<Self> {
        let parts = if bucket.is_some() { u64::from(rate.burst()) } else { 0 };
        let state =
            RateState { bucket, parts, used: 0, shortage: 0, looked_at: now, exhausted: false };
        let (has_waiters, reserved) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { rate, state: Mutex::new(state), has_waiters, reserved })
    }

    /// Nothing, before it is known what a former start has left.
    pub(super) fn withhold(&self) {
        self.state().bucket = None;
    }

    /// Goes on where a former start ended: all of it was empty then.
    pub(super) fn resume(&self, emptied_at: Timestamp, now: Timestamp) {
        self.state().bucket = Some(Bucket::emptied_at(self.rate, emptied_at, now));
    }

    /// When it would have been empty, had nothing been taken since; none without a part.
    pub(super) fn was_empty_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.state().bucket.as_mut().map(|bucket| bucket.was_empty_at(now))
    }

    /// Sets how many of the equal parts of a rate this node has. New parts are empty, unless
    /// their time of emptiness is known. Returns whether there are more than before.
    pub(super) fn grant(&self, of: Rate, parts: u64, part: RateGrant, now: Timestamp) -> bool {
        let mut state = self.state();
        let more = parts > state.parts;
        (state.parts, state.exhausted) = (parts, part.exhausted);
        let rate = of.part(parts, u64::from(of.burst()));
        match (&mut state.bucket, rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
            (bucket, rate) => {
                let then = part.emptied_at.unwrap_or(now);
                *bucket = rate.map(|rate| Bucket::emptied_at(rate, then, now));
            }
        }
        more
    }

    /// A token, or when to ask again.
    pub(super) fn take(
        self: &Arc<Self>,
        priority: AcquirePriority,
        now: Timestamp,
    ) -> Result<Token, Timestamp> {
        if priority == AcquirePriority::Handoff && self.has_waiters.load(Ordering::SeqCst) {
            return Err(now + BREATH);
        }
        let reserved =
            priority != AcquirePriority::Quarantine && self.reserved.load(Ordering::SeqCst);
        let mut state = self.state();
        let Some(bucket) = &mut state.bucket else { return Err(now + DRY) };
        if bucket.available(now) > u32::from(reserved) && bucket.take(now) {
            return Ok(Token { limiter: Arc::clone(self), used: false });
        }
        match priority {
            AcquirePriority::Waiting | AcquirePriority::Express | AcquirePriority::Overdue => {
                self.has_waiters.store(true, Ordering::SeqCst);
            }
            AcquirePriority::Quarantine => self.reserved.store(true, Ordering::SeqCst),
            AcquirePriority::Handoff => {}
        }
        Err(bucket.next_at(now).max(now + BREATH))
    }

    /// So many would have been of use and were refused. Whether it is worth asking other
    /// nodes for them.
    pub(super) fn note_shortage(&self, count: usize) -> bool {
        let mut state = self.state();
        let before = state.shortage;
        state.shortage = before.max(count as u64);
        before == 0 && !state.exhausted && state.parts < u64::from(self.rate.burst())
    }

    /// How many parts there are, and how many have been of use since the last time this
    /// was asked, with those that would be.
    pub(super) fn demand(&self, now: Timestamp) -> (u64, u64) {
        let mut state = self.state();
        let passed = now.since(state.looked_at).max(Duration::from_secs(1));
        let hourly = u128::from(state.used) * 3_600_000_000 / passed.as_micros();
        let all = u64::from(self.rate.burst());
        let used = (hourly * u128::from(all)).div_ceil(u128::from(self.rate.in_an_hour()));
        let used = u64::try_from(used).unwrap_or(all);
        let needs = if state.shortage > 0 { used.max(state.parts) + state.shortage } else { used };
        (state.used, state.looked_at) = (0, now);
        (state.parts, needs.min(all))
    }

    /// Forgets refusals: the refused callers ask again now.
    pub(super) fn forget_refusals(&self) {
        self.has_waiters.store(false, Ordering::SeqCst);
        self.state().shortage = 0;
    }

    /// Ends the reservation for quarantine.
    pub(super) fn release_reserved(&self) {
        self.reserved.store(false, Ordering::SeqCst);
    }

    /// Whether all of the rate is this node's.
    pub(super) fn is_whole(&self) -> bool {
        self.state().parts == u64::from(self.rate.burst())
    }

    /// The whole rate, across nodes.
    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    fn state(&self) -> MutexGuard<'_, RateState> {
        // It holds plain numbers, which are whole between statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a granted part starts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateGrant {
    /// When all of it was empty, where no node has used it since.
    pub(super) emptied_at: Option<Timestamp>,
    /// The other nodes have no more to give for now.
    pub(super) exhausted: bool,
}

/// The right to start one attempt; dropped unused, it returns.
#[derive(Debug)]
pub(super) struct Token {
    limiter: Arc<RateLimiter>,
    used: bool,
}

impl Token {
    /// The attempt begins.
    pub(super) fn used(&mut self) {
        self.used = true;
        self.limiter.state().used += 1;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.used
            && let Some(bucket) = &mut self.limiter.state().bucket
        {
            bucket.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_nothing_began_with_goes_back() {
        let now = Timestamp::EPOCH;
        let limiter = RateLimiter::of("1/s".parse().unwrap(), now);
        drop(limiter.take(AcquirePriority::Waiting, now));
        let mut token = limiter.take(AcquirePriority::Waiting, now).unwrap();
        token.used();
        drop(token);
        assert_eq!(
            limiter.take(AcquirePriority::Waiting, now).err(),
            Some(now + Duration::from_secs(1))
        );
    }

    #[test]
    fn who_has_just_come_takes_no_token_that_somebody_in_line_waits_for() {
        let now = Timestamp::EPOCH;
        let limiter = RateLimiter::of("1/s".parse().unwrap(), now);
        limiter.take(AcquirePriority::Waiting, now).unwrap().used();
        assert!(limiter.take(AcquirePriority::Waiting, now).is_err());
        let later = now + Duration::from_secs(1);
        assert!(limiter.take(AcquirePriority::Handoff, later).is_err());
        limiter.forget_refusals();
        assert!(limiter.take(AcquirePriority::Handoff, later).is_ok());
    }

    #[test]
    fn a_part_that_others_had_comes_empty_and_demand_is_told_in_parts() {
        let (mut now, rate) = (Timestamp::EPOCH, "10/s".parse().unwrap());
        let limiter = RateLimiter::none_of(rate, now);
        assert!(limiter.take(AcquirePriority::Waiting, now).is_err());
        assert!(limiter.note_shortage(3) && !limiter.is_whole());
        assert_eq!(limiter.demand(now), (0, 3));
        assert!(limiter.grant(rate, 2, RateGrant::default(), now));
        assert!(limiter.take(AcquirePriority::Waiting, now).is_err());
        now = now + Duration::from_secs(1);
        for _ in 0..2 {
            limiter.take(AcquirePriority::Waiting, now).unwrap().used();
        }
        assert!(limiter.take(AcquirePriority::Waiting, now).is_err());
        limiter.forget_refusals();
        assert_eq!(limiter.demand(now), (2, 2));
        limiter.grant(
            rate,
            10,
            RateGrant { emptied_at: Some(Timestamp::EPOCH), exhausted: false },
            now,
        );
        assert!(limiter.is_whole() && limiter.take(AcquirePriority::Waiting, now).is_err());
    }

    #[test]
    fn the_next_token_is_for_who_runs_alone() {
        let now = Timestamp::EPOCH;
        let limiter = RateLimiter::of("1/s".parse().unwrap(), now);
        limiter.take(AcquirePriority::Waiting, now).unwrap().used();
        assert!(limiter.take(AcquirePriority::Quarantine, now).is_err());
        let later = now + Duration::from_secs(1);
        assert!(limiter.take(AcquirePriority::Waiting, later).is_err());
        assert!(limiter.take(AcquirePriority::Quarantine, later).is_ok());
    }

    #[test]
    fn a_fast_rate_is_not_asked_for_every_token() {
        let now = Timestamp::EPOCH;
        let limiter = RateLimiter::of("1000/s".parse().unwrap(), now);
        while let Ok(mut token) = limiter.take(AcquirePriority::Waiting, now) {
            token.used();
        }
        assert_eq!(limiter.take(AcquirePriority::Waiting, now).err(), Some(now + BREATH));
    }
}
