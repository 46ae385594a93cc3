//! When each loop of the webhooks last got its work done.
//!
//! Owns the last success of every loop and how old it may grow, for `readyz`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cloakroom_domain::Timestamp;

/// A loop of the webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    Rounds,
    Settling,
    Fanning,
    Upkeep,
}

impl Loop {
    const ALL: [Self; 4] = [Self::Rounds, Self::Settling, Self::Fanning, Self::Upkeep];

    const fn name(self) -> &'static str {
        match self {
            Self::Rounds => "webhook dispatcher",
            Self::Settling => "webhook settler",
            Self::Fanning => "webhook fan-out",
            Self::Upkeep => "webhook maintenance",
        }
    }
}

/// How old a last success may be: several rounds of the slowest loop.
const PATIENCE: Duration = Duration::from_mins(1);

/// The last success of each loop.
#[derive(Debug)]
pub(super) struct Beats([AtomicI64; 4]);

impl Beats {
    /// Every loop counts as well at the start.
    pub(super) fn starting(now: Timestamp) -> Self {
        Self(std::array::from_fn(|_| AtomicI64::new(now.as_micros())))
    }

    /// A loop got its work done.
    pub(super) fn beat(&self, which: Loop, now: Timestamp) {
        self.0[which as usize].store(now.as_micros(), Ordering::Relaxed);
    }

    /// A loop whose last success is too old.
    pub(super) fn stalled(&self, now: Timestamp) -> Option<&'static str> {
        let last =
            |which: Loop| Timestamp::from_micros(self.0[which as usize].load(Ordering::Relaxed));
        Loop::ALL.into_iter().find(|which| now.since(last(*which)) > PATIENCE).map(Loop::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_fell_silent_is_named() {
        let beats = Beats::starting(Timestamp::EPOCH);
        let later = Timestamp::EPOCH + Duration::from_secs(61);
        for which in [Loop::Rounds, Loop::Fanning, Loop::Upkeep] {
            beats.beat(which, later);
        }
        assert_eq!(beats.stalled(later), Some("webhook settler"));
        beats.beat(Loop::Settling, later);
        assert_eq!(beats.stalled(later), None);
    }
}
