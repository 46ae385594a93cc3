//! The circuit breaker of one upstream: closed, open for a pause, or half-open for a probe.
//!
//! Owns the three states and the signals that move between them. Its invariant: while the breaker is
//! not closed, attempts begin one at a time. It must not know which operation is sent.
//!
//! Only signs of an absent server count against an upstream: a failed connection, an attempt that
//! broke off or timed out, and the statuses by which proxies report a missing server (502, 503, 504
//! and their like). A 503 with `Retry-After` comes from a live upstream that asks for patience. Any
//! other status, 500 included, is an answer: one request that breaks its handler must not close the
//! upstream for all other requests.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::Timestamp;
use super::operation::{ErrorCode, Outcome, SendState, UpstreamAnswer, is_of_a_proxy};

/// This many failed connections in a row open it.
const UNREACHED: u32 = 5;
/// The stretch of time, as two halves, over which failures of all kinds are weighed.
const HALF: Duration = Duration::from_secs(15);
/// So many attempts must have ended in that time before their share means anything.
const ENOUGH: u32 = 20;
/// This share of failures opens it, in fifths.
const FIFTHS: u32 = 4;
/// The longest pause at first, and after many failed probes.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// A timeout says something of the upstream if it had this long: clients may ask for less.
const PATIENT: Duration = Duration::from_secs(10);

/// The health of an upstream as one attempt's end shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthSignal {
    /// It answers.
    Answers,
    /// It could not be reached: nothing was sent.
    Unreached,
    /// It was reached, and failed to answer.
    Fails,
}

impl HealthSignal {
    /// Reads the sign in an outcome; `allowed` is the time that the attempt had. Many
    /// outcomes say nothing about the upstream.
    pub fn of(outcome: &Outcome, allowed: Duration) -> Option<Self> {
        match outcome {
            Outcome::Answered(answer) | Outcome::TooLarge(answer) => Some(Self::of_answer(answer)),
            Outcome::TookEffect { .. } | Outcome::Refuted { .. } | Outcome::NotFollowed => {
                Some(Self::Answers)
            }
            Outcome::Broken { cause, sent } => Self::of_break(*cause, *sent, allowed),
            Outcome::Unreadable { .. }
            | Outcome::Interrupted { .. }
            | Outcome::Lost
            | Outcome::Unclear { .. }
            | Outcome::Canceled { .. }
            | Outcome::Expired
            | Outcome::Unroutable
            | Outcome::StillPending { .. }
            | Outcome::Unfinished { .. }
            | Outcome::NoEnd { .. }
            | Outcome::Followed(_) => None,
        }
    }

    fn of_break(cause: ErrorCode, sent: SendState, allowed: Duration) -> Option<Self> {
        match (cause, sent) {
            (ErrorCode::UpstreamTimeout, _) if allowed < PATIENT => None,
            // A request that cannot be put into HTTP, and one that the gateway lost.
            (ErrorCode::UpstreamProtocol, SendState::Nothing) | (ErrorCode::Unreadable, _) => None,
            (_, SendState::Nothing) => Some(Self::Unreached),
            (_, SendState::Perhaps) => Some(Self::Fails),
        }
    }

    const fn of_answer(answer: &UpstreamAnswer) -> Self {
        match answer.status {
            status if is_of_a_proxy(status) => Self::Fails,
            503 if !answer.retry_after.is_given() => Self::Fails,
            _ => Self::Answers,
        }
    }
}

/// Permission for one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPass {
    /// The breaker is closed.
    Free,
    /// This attempt finds out how the upstream is.
    Probe,
}

/// The state of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerPhase {
    /// Attempts begin freely.
    Closed {
        /// Failed connections in a row.
        unreached: u32,
        /// What ended lately.
        window: FailureWindow,
    },
    /// No attempt begins.
    Open {
        /// Since when.
        since: Timestamp,
        /// For how long.
        pause: Duration,
        /// How often it has opened without having been closed.
        openings: u32,
    },
    /// A probe is on its way.
    HalfOpen {
        /// When the latest probe began.
        since: Timestamp,
        /// How many are on their way.
        probes: u32,
        /// How often it has opened without having been closed.
        openings: u32,
    },
}

/// How many attempts ended lately, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureWindow {
    since: Timestamp,
    present: OutcomeTally,
    before: OutcomeTally,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OutcomeTally {
    ended: u32,
    failed: u32,
}

impl FailureWindow {
    fn count(&mut self, failed: bool, now: Timestamp) {
        let age = now.since(self.since);
        if age >= HALF || now < self.since {
            let before = if age < HALF * 2 { self.present } else { OutcomeTally::default() };
            *self = Self { since: now, present: OutcomeTally::default(), before };
        }
        self.present.ended += 1;
        self.present.failed += u32::from(failed);
    }

    const fn is_hopeless(&self) -> bool {
        let ended = self.present.ended + self.before.ended;
        let failed = self.present.failed + self.before.failed;
        ended >= ENOUGH && failed * 5 >= ended * FIFTHS
    }
}

/// Closed, and nothing has ended yet.
impl Default for BreakerPhase {
    fn default() -> Self {
        Self::Closed { unreached: 0, window: FailureWindow::default() }
    }
}

/// The breaker of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker(BreakerPhase);

impl Breaker {
    /// Where it stands.
    pub const fn state(&self) -> &BreakerPhase {
        &self.0
    }

    /// Leave for one attempt, or when to ask again. A probe that takes long is not waited
    /// for alone: after the longest pause another one may find out sooner.
    pub fn pass(&mut self, now: Timestamp) -> Result<BreakerPass, Timestamp> {
        let (since, pause, probes, openings) = match self.0 {
            BreakerPhase::Closed { .. } => return Ok(BreakerPass::Free),
            BreakerPhase::Open { since, pause, openings } => (since, pause, 0, openings),
            BreakerPhase::HalfOpen { since, probes, openings } => {
                (since, PAUSES.1, probes, openings)
            }
        };
        // A clock that was set back must not leave the upstream alone for hours.
        let over = since + pause;
        if since <= now && now < over {
            return Err(over);
        }
        self.0 = BreakerPhase::HalfOpen { since: now, probes: probes + 1, openings };
        Ok(BreakerPass::Probe)
    }

    /// An attempt has ended.
    pub fn ended(
        &mut self,
        pass: BreakerPass,
        sign: HealthSignal,
        now: Timestamp,
        rng: &mut impl Rng,
    ) {
        let probe = pass == BreakerPass::Probe;
        match (&mut self.0, sign) {
            (BreakerPhase::Closed { unreached, window }, sign) => {
                *unreached = if sign == HealthSignal::Unreached { *unreached + 1 } else { 0 };
                window.count(sign != HealthSignal::Answers, now);
                if *unreached >= UNREACHED || window.is_hopeless() {
                    self.open(0, now, rng);
                }
            }
            (_, HealthSignal::Answers) if probe => *self = Self::default(),
            (BreakerPhase::HalfOpen { openings, .. }, _) if probe => {
                let openings = *openings;
                self.open(openings, now, rng);
            }
            // It began before the breaker opened.
            _ => {}
        }
    }

    /// A probe has ended without having found out anything.
    pub const fn abandoned(&mut self) {
        if let BreakerPhase::HalfOpen { since, probes, openings } = self.0 {
            self.0 = match probes {
                0 | 1 => BreakerPhase::Open { since, pause: Duration::ZERO, openings },
                _ => BreakerPhase::HalfOpen { since, probes: probes - 1, openings },
            };
        }
    }

    /// Opens, for a random part of a ceiling that doubles.
    fn open(&mut self, openings: u32, now: Timestamp, rng: &mut impl Rng) {
        let ceiling = PAUSES.0.saturating_mul(1 << openings.min(31)).min(PAUSES.1);
        let pause = ceiling.mul_f64(rng.random::<f64>());
        self.0 = BreakerPhase::Open { since: now, pause, openings: openings + 1 };
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
