//! The policy of an operation, fixed at its acceptance so that a later configuration does not change
//! it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::{Recheck, RequestPurpose, UpstreamAnswer, is_of_a_proxy};
use crate::Timestamp;

/// How often the upstream may see a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryGuarantee {
    /// Never again once the upstream may have seen it. Right for what is not idempotent
    /// (RFC 9110 section 9.2.2).
    AtMostOnce,
    /// Again until it is answered. Right for what is safe to repeat.
    AtLeastOnce,
}

/// The promises that go with one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How often the upstream may see it.
    pub delivery: DeliveryGuarantee,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// When the whole must be done.
    pub deadline_at: Timestamp,
    /// How failures are tried again.
    pub retry: RetryPolicy,
    /// How long its client waits from the acceptance on, where it was accepted synchronously: the
    /// first complete answer is final, and only failures in which nothing was sent are tried
    /// again, within that time.
    pub wait: Option<Duration>,
    /// The statuses that mean success, where they are not the usual ones.
    pub success: Option<Statuses>,
    /// What becomes of its serial key when it fails.
    pub on_failure: OnFailure,
    /// How the upstream is asked whether an attempt took effect, if it can be.
    pub recheck: Option<Recheck>,
}

impl Policy {
    /// Whether its first complete answer is final.
    pub const fn is_synchronous(&self) -> bool {
        self.wait.is_some()
    }

    /// Whether an answer with that status means that a request was carried out.
    pub fn is_met_by(&self, purpose: &RequestPurpose, status: u16) -> bool {
        match &self.success {
            Some(listed) => listed.contains(status),
            None => purpose.is_met_by(status),
        }
    }

    /// Whether an answer means that a request was carried out. A redirect that only asks for TLS
    /// does so where it is said.
    pub fn is_met_by_answer(&self, purpose: &RequestPurpose, answer: &UpstreamAnswer) -> bool {
        let is_meant = self.success.is_some() || !answer.by_scheme;
        is_meant && self.is_met_by(purpose, answer.status)
    }

    /// Whether the `Location` of an answer names what a request created.
    pub fn creates_by(&self, purpose: &RequestPurpose, answer: &UpstreamAnswer) -> bool {
        purpose.creates_by(answer.status) && self.is_met_by_answer(purpose, answer)
    }
}

/// A set of status codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Arc<[u16]>);

/// A text is no list of status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no list of status codes")]
pub struct BadStatuses;

impl Statuses {
    /// Whether a status is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

impl FromIterator<u16> for Statuses {
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut all: Vec<_> = statuses.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }
}

/// As the ledger keeps them: `201,303`.
impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, status) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{status}")?;
        }
        Ok(())
    }
}

impl FromStr for Statuses {
    type Err = BadStatuses;

    fn from_str(text: &str) -> Result<Self, BadStatuses> {
        let listed = text.split(',').filter(|status| !status.is_empty());
        listed.map(|status| status.parse().map_err(|_| BadStatuses)).collect()
    }
}

/// What becomes of a serial key when its operation fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// The next one goes.
    #[default]
    Skip,
    /// The next operation of the key waits until a person releases it.
    Block,
}

impl OnFailure {
    /// The name in configurations and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Block => "block",
        }
    }

    /// The policy of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Skip, Self::Block].into_iter().find(|policy| policy.as_str() == name)
    }
}

/// How failures are tried again: exponential, with full jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts count before giving up; at least 1.
    pub attempts: u32,
    /// The longest wait after the first failure.
    pub min: Duration,
    /// The longest wait after any failure.
    pub max: Duration,
    /// The statuses that are tried again at least once, where they are not the usual ones.
    pub statuses: Option<Statuses>,
}

impl RetryPolicy {
    /// Whether an answer with that status is tried again at least once.
    pub fn repeats(&self, status: u16) -> bool {
        match &self.statuses {
            Some(listed) => listed.contains(status),
            None => matches!(status, 408 | 425 | 429 | 500 | 503) || is_of_a_proxy(status),
        }
    }

    /// How long to wait after `failed` attempts: a random part of a ceiling that doubles.
    /// `floor` is what the upstream asked for (`Retry-After`); the wait is never less.
    pub fn wait(&self, failed: u32, floor: Option<Duration>, rng: &mut impl Rng) -> Duration {
        let doublings = failed.saturating_sub(1).min(31);
        let ceiling = self.min.saturating_mul(1 << doublings).min(self.max);
        let jittered = ceiling.mul_f64(rng.random::<f64>());
        jittered.max(floor.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        #[test]
        fn a_wait_lies_between_the_floor_and_the_ceiling(spent in 0u32..100, floor in 0u64..600, seed: u64) {
            let policy = RetryPolicy { attempts: 10, min: Duration::from_secs(1), max: Duration::from_mins(5), statuses: None };
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let floor = Duration::from_secs(floor);
            let wait = policy.wait(spent, Some(floor), &mut rng);
            let ceiling = Duration::from_secs(1u64.checked_shl(spent.saturating_sub(1)).unwrap_or(300).clamp(1, 300));
            prop_assert!(wait >= floor);
            prop_assert!(wait <= floor.max(ceiling));
        }
    }

    #[test]
    fn statuses_are_read_back_as_they_are_written() {
        for (given, text) in [(vec![], ""), (vec![303, 201, 303], "201,303"), (vec![500], "500")] {
            let statuses: Statuses = given.into_iter().collect();
            assert_eq!(statuses.to_string(), text);
            assert_eq!(text.parse(), Ok(statuses));
        }
        for bad in ["x", "200;", "99999", "-1"] {
            assert_eq!(bad.parse::<Statuses>(), Err(BadStatuses), "{bad}");
        }
    }

    #[test]
    fn waits_are_spread_over_all_of_a_ceiling_that_doubles() {
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(5));
        let policy = RetryPolicy { attempts: 10, min, max, statuses: None };
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        for (failed, ceiling) in [(1, 1), (2, 2), (3, 4), (6, 32), (9, 256), (10, 300), (99, 300)] {
            let mut waits: Vec<f64> =
                (0..1000).map(|_| policy.wait(failed, None, &mut rng).as_secs_f64()).collect();
            waits.sort_by(f64::total_cmp);
            for tenth in 1..10 {
                let share = waits[tenth * 100] / f64::from(ceiling);
                assert!((share - tenth as f64 / 10.0).abs() < 0.06, "{failed}: {share}");
            }
        }
    }
}
