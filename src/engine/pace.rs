//! How many attempts may begin in a time, and the tokens taken for it.
//!
//! Owns one bucket. Its invariant: a token that no attempt began with goes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::share::Asker;
use cloakroom_domain::Timestamp;
use cloakroom_domain::limit::{Bucket, Rate};

/// The shortest wait for a token. A fast rate brings several in it, which are then claimed
/// together; the bucket holds a whole second's, so nothing is lost.
const BREATH: Duration = Duration::from_millis(10);
/// How soon to ask again where nothing comes in; whoever is granted something is told.
const DRY: Duration = Duration::from_secs(1);

/// Keeps a rate, or this node's part of it.
#[derive(Debug)]
pub(super) struct Pace {
    /// The whole rate.
    rate: Rate,
    flow: Mutex<Flow>,
    awaited: AtomicBool,
    // One token is for who runs alone.
    kept: AtomicBool,
}

#[derive(Debug)]
struct Flow {
    // None while there is no part.
    bucket: Option<Bucket>,
    parts: u64,
    // Since somebody last looked.
    used: u64,
    looked_at: Timestamp,
    // What was refused since all who wait asked last.
    missed: u64,
    // As many parts were granted as there are to be had.
    hopeless: bool,
}

impl Pace {
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
        let flow = Flow { bucket, parts, used: 0, missed: 0, looked_at: now, hopeless: false };
        let (awaited, kept) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { rate, flow: Mutex::new(flow), awaited, kept })
    }

    /// Nothing, before it is known what a former start has left.
    pub(super) fn withhold(&self) {
        self.flow().bucket = None;
    }

    /// Goes on where a former start ended: all of it was empty then.
    pub(super) fn resume(&self, emptied_at: Timestamp, now: Timestamp) {
        self.flow().bucket = Some(Bucket::emptied_at(self.rate, emptied_at, now));
    }

    /// When it would have been empty, had nothing been taken since; none without a part.
    pub(super) fn was_empty_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.flow().bucket.as_mut().map(|bucket| bucket.was_empty_at(now))
    }

    /// From now on so many of the equal parts of a rate are this node's. Nothing is in them
    /// yet, unless nobody has used them since they were empty. Whether there are more than
    /// before.
    pub(super) fn grant(&self, of: Rate, parts: u64, part: Part, now: Timestamp) -> bool {
        let mut flow = self.flow();
        let more = parts > flow.parts;
        (flow.parts, flow.hopeless) = (parts, part.hopeless);
        let rate = of.part(parts, u64::from(of.burst()));
        match (&mut flow.bucket, rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
            (bucket, rate) => {
                let then = part.emptied_at.unwrap_or(now);
                *bucket = rate.map(|rate| Bucket::emptied_at(rate, then, now));
            }
        }
        more
    }

    /// A token, or when to ask again.
    pub(super) fn take(self: &Arc<Self>, asker: Asker, now: Timestamp) -> Result<Token, Timestamp> {
        if asker == Asker::Newcomer && self.awaited.load(Ordering::SeqCst) {
            return Err(now + BREATH);
        }
        let kept = asker != Asker::Alone && self.kept.load(Ordering::SeqCst);
        let mut flow = self.flow();
        let Some(bucket) = &mut flow.bucket else { return Err(now + DRY) };
        if bucket.available(now) > u32::from(kept) && bucket.take(now) {
            return Ok(Token { pace: Arc::clone(self), used: false });
        }
        match asker {
            Asker::InLine | Asker::OnTheLine | Asker::Overdue => {
                self.awaited.store(true, Ordering::SeqCst);
            }
            Asker::Alone => self.kept.store(true, Ordering::SeqCst),
            Asker::Newcomer => {}
        }
        Err(bucket.next_at(now).max(now + BREATH))
    }

    /// So many would have been of use and were refused. Whether it is worth asking other
    /// nodes for them.
    pub(super) fn miss(&self, count: usize) -> bool {
        let mut flow = self.flow();
        let before = flow.missed;
        flow.missed = before.max(count as u64);
        before == 0 && !flow.hopeless && flow.parts < u64::from(self.rate.burst())
    }

    /// How many parts there are, and how many have been of use since the last time this
    /// was asked, with those that would be.
    pub(super) fn demand(&self, now: Timestamp) -> (u64, u64) {
        let mut flow = self.flow();
        let passed = now.since(flow.looked_at).max(Duration::from_secs(1));
        let hourly = u128::from(flow.used) * 3_600_000_000 / passed.as_micros();
        let all = u64::from(self.rate.burst());
        let used = (hourly * u128::from(all)).div_ceil(u128::from(self.rate.in_an_hour()));
        let used = u64::try_from(used).unwrap_or(all);
        let needs = if flow.missed > 0 { used.max(flow.parts) + flow.missed } else { used };
        (flow.used, flow.looked_at) = (0, now);
        (flow.parts, needs.min(all))
    }

    /// Forgets who was refused: they ask again now.
    pub(super) fn call_up(&self) {
        self.awaited.store(false, Ordering::SeqCst);
        self.flow().missed = 0;
    }

    /// Nobody runs alone any more, or asks again now.
    pub(super) fn keep_nothing(&self) {
        self.kept.store(false, Ordering::SeqCst);
    }

    /// Whether all of the rate is this node's.
    pub(super) fn is_whole(&self) -> bool {
        self.flow().parts == u64::from(self.rate.burst())
    }

    /// The whole rate, whoever has parts of it.
    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        // It holds plain numbers, which are whole between statements.
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to make of a part that is granted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// When all of it was empty, where nobody has used it since.
    pub(super) emptied_at: Option<Timestamp>,
    /// There is no more to be had for now.
    pub(super) hopeless: bool,
}

/// Leave to begin one attempt; dropped unused, it goes back.
#[derive(Debug)]
pub(super) struct Token {
    pace: Arc<Pace>,
    used: bool,
}

impl Token {
    /// The attempt begins.
    pub(super) fn used(&mut self) {
        self.used = true;
        self.pace.flow().used += 1;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.used
            && let Some(bucket) = &mut self.pace.flow().bucket
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
        let pace = Pace::of("1/s".parse().unwrap(), now);
        drop(pace.take(Asker::InLine, now));
        let mut token = pace.take(Asker::InLine, now).unwrap();
        token.used();
        drop(token);
        assert_eq!(pace.take(Asker::InLine, now).err(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn who_has_just_come_takes_no_token_that_somebody_in_line_waits_for() {
        let now = Timestamp::EPOCH;
        let pace = Pace::of("1/s".parse().unwrap(), now);
        pace.take(Asker::InLine, now).unwrap().used();
        assert!(pace.take(Asker::InLine, now).is_err());
        let later = now + Duration::from_secs(1);
        assert!(pace.take(Asker::Newcomer, later).is_err());
        pace.call_up();
        assert!(pace.take(Asker::Newcomer, later).is_ok());
    }

    #[test]
    fn a_part_that_others_had_comes_empty_and_demand_is_told_in_parts() {
        let (mut now, rate) = (Timestamp::EPOCH, "10/s".parse().unwrap());
        let pace = Pace::none_of(rate, now);
        assert!(pace.take(Asker::InLine, now).is_err());
        assert!(pace.miss(3) && !pace.is_whole());
        assert_eq!(pace.demand(now), (0, 3));
        assert!(pace.grant(rate, 2, Part::default(), now));
        assert!(pace.take(Asker::InLine, now).is_err());
        now = now + Duration::from_secs(1);
        for _ in 0..2 {
            pace.take(Asker::InLine, now).unwrap().used();
        }
        assert!(pace.take(Asker::InLine, now).is_err());
        pace.call_up();
        assert_eq!(pace.demand(now), (2, 2));
        pace.grant(rate, 10, Part { emptied_at: Some(Timestamp::EPOCH), hopeless: false }, now);
        assert!(pace.is_whole() && pace.take(Asker::InLine, now).is_err());
    }

    #[test]
    fn the_next_token_is_for_who_runs_alone() {
        let now = Timestamp::EPOCH;
        let pace = Pace::of("1/s".parse().unwrap(), now);
        pace.take(Asker::InLine, now).unwrap().used();
        assert!(pace.take(Asker::Alone, now).is_err());
        let later = now + Duration::from_secs(1);
        assert!(pace.take(Asker::InLine, later).is_err());
        assert!(pace.take(Asker::Alone, later).is_ok());
    }

    #[test]
    fn a_fast_rate_is_not_asked_for_every_token() {
        let now = Timestamp::EPOCH;
        let pace = Pace::of("1000/s".parse().unwrap(), now);
        while let Ok(mut token) = pace.take(Asker::InLine, now) {
            token.used();
        }
        assert_eq!(pace.take(Asker::InLine, now).err(), Some(now + BREATH));
    }
}
