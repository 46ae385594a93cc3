//! What was promised about carrying an operation out, fixed at its acceptance so that a
//! later configuration does not change it.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::Recheck;
use crate::domain::Timestamp;

/// How often the upstream may see a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
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
    pub delivery: Delivery,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// When the whole must be done.
    pub deadline_at: Timestamp,
    /// How failures are tried again.
    pub retry: RetryPolicy,
    /// Accepted synchronously: the first complete answer is final, and only failures in
    /// which nothing was sent are tried again.
    pub first_answer_is_final: bool,
    /// What becomes of its serial key when it fails.
    pub on_failure: OnFailure,
    /// How the upstream is asked whether an attempt took effect, if it can be.
    pub recheck: Option<Recheck>,
}

/// What becomes of a serial key when its operation fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// The next one goes.
    #[default]
    Skip,
    /// Nobody goes until a person lets them.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts count before giving up; at least 1.
    pub attempts: u32,
    /// The longest wait after the first failure.
    pub min: Duration,
    /// The longest wait after any failure.
    pub max: Duration,
}

impl RetryPolicy {
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
            let policy = RetryPolicy { attempts: 10, min: Duration::from_secs(1), max: Duration::from_mins(5) };
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let floor = Duration::from_secs(floor);
            let wait = policy.wait(spent, Some(floor), &mut rng);
            let ceiling = Duration::from_secs(1u64.checked_shl(spent.saturating_sub(1)).unwrap_or(300).clamp(1, 300));
            prop_assert!(wait >= floor);
            prop_assert!(wait <= floor.max(ceiling));
        }
    }

    #[test]
    fn waits_are_spread_over_all_of_a_ceiling_that_doubles() {
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(5));
        let policy = RetryPolicy { attempts: 10, min, max };
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
