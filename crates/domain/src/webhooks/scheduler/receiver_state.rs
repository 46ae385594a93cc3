//! The scheduler's state of one receiver.
//!
//! Owns how the receiver has answered lately, how many deliveries may be sent to it at once, and how
//! many may be claimed for it. It must not know of other receivers.

use std::collections::VecDeque;
use std::time::Duration;

use super::{QUICK, REMEMBERED, SlotLimits};
use crate::Timestamp;
use crate::breaker::{Breaker, BreakerPhase, HealthSignal};
use crate::limit::{Bucket, Rate};

/// The most deliveries that are claimed for a quick receiver: with fewer, the duration of a claim
/// would limit its throughput.
pub(super) const REACH: usize = 512;
/// Half of the stretch of time over which a receiver's pace is measured: as long as it takes
/// at worst to write something down and to send it.
const HALF: Duration = Duration::from_millis(50);
/// Failures in a row after which one that has answered is taken for silent.
const SEVERAL: u32 = 5;

/// How a receiver has answered lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Responsiveness {
    /// Nothing is known, or it has answered and then once not: one at a time finds out.
    #[default]
    Unknown,
    /// Not at all: one at a time finds out whether that has changed.
    Silent,
    Slow,
    Quick,
}

impl Responsiveness {
    pub(super) const fn is_slow(self) -> bool {
        matches!(self, Self::Slow | Self::Silent)
    }
}

/// How many attempts have ended within the last 50 to 100 ms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentThroughput {
    since: Timestamp,
    present: usize,
    before: usize,
}

impl RecentThroughput {
    fn turn_over(&mut self, now: Timestamp) {
        let age = now.since(self.since);
        if age >= HALF {
            let before = if age < HALF * 2 { self.present } else { 0 };
            *self = Self { since: now, present: 0, before };
        }
    }

    pub(super) fn count(&mut self, now: Timestamp) {
        self.turn_over(now);
        self.present += 1;
    }

    fn lately(&mut self, now: Timestamp) -> usize {
        self.turn_over(now);
        self.present + self.before
    }
}

/// The scheduler's state of one receiver.
#[derive(Debug)]
pub(super) struct ReceiverState<T> {
    pub(super) waiting: VecDeque<(bool, T)>,
    /// Claimed, and not here yet.
    pub(super) asked: usize,
    /// Since when something has been asked for, where that is so.
    asking_since: Timestamp,
    /// Room was promised for these, and they are not here yet.
    pub(super) promised: usize,
    pub(super) sending: usize,
    /// Sent or given back, and not settled yet.
    pub(super) unsettled: usize,
    pub(super) manner: Responsiveness,
    /// Whether it has answered at all.
    has_answered: bool,
    /// Failures in a row; of those that were under way together one counts.
    failures: u32,
    /// The number of the last turn before the last failure that counted.
    failed_in: u64,
    pub(super) breaker: Breaker,
    pub(super) probe: bool,
    /// The rate that the receiver asked for.
    own_rate: Option<Rate>,
    pub(super) bucket: Option<Bucket>,
    pub(super) pace: RecentThroughput,
    pub(super) not_before: Timestamp,
    pub(super) seen_at: Timestamp,
    /// The number of the round in which something was asked for last.
    pub(super) asked_in: u64,
    /// The number of the turn in which something went out last.
    pub(super) begun_in: u64,
    /// Whether a single free place goes to a retry.
    pub(super) favours_again: bool,
}

impl<T> ReceiverState<T> {
    pub(super) fn new(limits: &SlotLimits, now: Timestamp) -> Self {
        Self {
            waiting: VecDeque::new(),
            asked: 0,
            asking_since: now,
            promised: 0,
            sending: 0,
            unsettled: 0,
            manner: Responsiveness::default(),
            has_answered: false,
            failures: 0,
            failed_in: 0,
            breaker: Breaker::default(),
            probe: false,
            own_rate: None,
            bucket: limits.rate.map(|rate| Bucket::full(rate, now)),
            pace: RecentThroughput::default(),
            not_before: now,
            seen_at: now,
            asked_in: 0,
            begun_in: 0,
            favours_again: false,
        }
    }

    /// From now on no faster than the receiver says, nor than is configured.
    pub(super) fn keep_to(&mut self, own: Option<Rate>, limits: &SlotLimits, now: Timestamp) {
        if own == self.own_rate {
            return;
        }
        self.own_rate = own;
        match (Rate::lower(own, limits.rate), &mut self.bucket) {
            (Some(rate), Some(bucket)) => bucket.set_rate(rate, now),
            (rate, bucket) => *bucket = rate.map(|rate| Bucket::full(rate, now)),
        }
    }

    pub(super) fn taken_on(&self) -> usize {
        self.asked + self.promised + self.waiting.len() + self.sending
    }

    /// So many more are asked for.
    pub(super) const fn asks(&mut self, count: usize, now: Timestamp) {
        if self.asked == 0 {
            self.asking_since = now;
        }
        self.asked += count;
    }

    /// Since when something has been asked for that is not here yet.
    pub(super) fn asked_since(&self) -> Option<Timestamp> {
        (self.asked > 0).then_some(self.asking_since)
    }

    pub(super) fn is_parked(&self) -> bool {
        !matches!(self.breaker.state(), BreakerPhase::Closed { .. })
    }

    /// Whether it did not take what it got last.
    pub(super) fn fails(&self) -> bool {
        self.failures > 0 || self.manner == Responsiveness::Silent || self.is_parked()
    }

    /// Whose share it has a part in. One that was parked is not sure to be quick, and not
    /// yet among those that have been silent for long.
    pub(super) fn counts_as(&self) -> Responsiveness {
        match self.manner {
            Responsiveness::Quick if self.is_parked() => Responsiveness::Unknown,
            manner => manner,
        }
    }

    /// An attempt has ended that began with turn `began`; `latest` is the last turn so far.
    pub(super) fn heard(&mut self, sign: HealthSignal, took: Duration, began: u64, latest: u64) {
        let at_once = took < QUICK;
        if sign == HealthSignal::Answers {
            (self.has_answered, self.failures) = (true, 0);
            self.manner = if at_once { Responsiveness::Quick } else { Responsiveness::Slow };
            return;
        }
        // A receiver that is restarted breaks off all that is under way: that is one failure.
        if self.failures == 0 || began > self.failed_in {
            (self.failures, self.failed_in) = (self.failures + 1, latest);
        }
        self.manner = match self.manner {
            _ if self.failures >= SEVERAL => Responsiveness::Silent,
            // It holds a slot no longer than one that answers.
            manner if at_once => manner,
            _ if self.has_answered => Responsiveness::Unknown,
            _ => Responsiveness::Silent,
        };
    }

    /// Its first contact was not answered quickly.
    pub(super) const fn keeps_waiting(&mut self) {
        self.manner = Responsiveness::Silent;
    }

    /// Attempts at once: one that failed last may go on failing, and each may be dear.
    pub(super) fn allowed(&self, limits: &SlotLimits) -> usize {
        let unsure = matches!(self.manner, Responsiveness::Unknown | Responsiveness::Silent);
        let one_by_one = unsure || self.failures > 0 || self.is_parked();
        if one_by_one { 1 } else { limits.concurrency }
    }

    /// How much may be taken on.
    pub(super) fn reach(&mut self, limits: &SlotLimits, now: Timestamp) -> usize {
        let allowed = self.allowed(limits);
        match self.manner {
            Responsiveness::Quick if self.failures == 0 && !self.is_parked() => {
                self.pace.lately(now).clamp(allowed, REACH.max(allowed))
            }
            _ => allowed,
        }
    }

    /// What is waiting and may not go out any time soon.
    pub(super) fn turned_away(&mut self, limits: &SlotLimits) -> Vec<T> {
        let keeps = match self.manner {
            _ if self.is_parked() => usize::from(self.probe).saturating_sub(self.sending),
            Responsiveness::Quick => self.waiting.len(),
            _ => self.allowed(limits).saturating_sub(self.sending),
        };
        let keeps = keeps.min(self.waiting.len());
        let away: Vec<T> = self.waiting.drain(keeps..).map(|(_, item)| item).collect();
        self.unsettled += away.len();
        self.give_back(away.len());
        away
    }

    pub(super) fn give_back(&mut self, tokens: usize) {
        if let Some(bucket) = &mut self.bucket {
            (0..tokens).for_each(|_| bucket.give_back());
        }
    }

    pub(super) fn is_forgotten(&self, now: Timestamp) -> bool {
        let idle = self.taken_on() + self.unsettled == 0;
        idle && now.since(self.seen_at) > REMEMBERED
    }
}
