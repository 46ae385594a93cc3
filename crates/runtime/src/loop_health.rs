//! Loop health: when each background loop last succeeded.
//!
//! Owns the last success of every loop and the decision that a loop is stuck, for `readyz`. It
//! must not know what a loop does.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cloakroom_domain::Timestamp;

/// The loops of one part of the gateway.
pub trait WatchedLoop: Copy + PartialEq + 'static {
    /// Every loop, in the order in which stuck loops are reported.
    const ALL: &'static [Self];

    /// The name that `readyz` shows.
    fn name(self) -> &'static str;

    /// How old the last success may be: several rounds of the loop.
    fn max_age(self) -> Duration;
}

/// The last success of each loop.
#[derive(Debug)]
pub struct LoopHealth<L>(Vec<(L, AtomicI64)>);

impl<L: WatchedLoop> LoopHealth<L> {
    /// All loops count as healthy at the start.
    pub fn starting(now: Timestamp) -> Self {
        let healthy = |which: &L| (*which, AtomicI64::new(now.as_micros()));
        Self(L::ALL.iter().map(healthy).collect())
    }

    /// Records a success of a loop.
    pub fn succeeded(&self, which: L, now: Timestamp) {
        if let Some((_, last)) = self.0.iter().find(|(one, _)| *one == which) {
            last.store(now.as_micros(), Ordering::Relaxed);
        }
    }

    /// Stops watching a loop that does not run on this node.
    pub fn ignore(&self, which: L) {
        self.succeeded(which, Timestamp::from_micros(i64::MAX));
    }

    /// The name of the first loop whose last success is too old.
    pub fn stuck(&self, now: Timestamp) -> Option<&'static str> {
        let is_stuck = |(which, last): &&(L, AtomicI64)| {
            now.since(Timestamp::from_micros(last.load(Ordering::Relaxed))) > which.max_age()
        };
        self.0.iter().find(is_stuck).map(|(which, _)| which.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum TestLoop {
        Fast,
        Slow,
    }

    impl WatchedLoop for TestLoop {
        const ALL: &'static [Self] = &[Self::Fast, Self::Slow];

        fn name(self) -> &'static str {
            match self {
                Self::Fast => "fast",
                Self::Slow => "slow",
            }
        }

        fn max_age(self) -> Duration {
            match self {
                Self::Fast => Duration::from_mins(1),
                Self::Slow => Duration::from_mins(5),
            }
        }
    }

    #[test]
    fn a_loop_is_stuck_when_its_own_last_success_is_too_old() {
        let after = |minutes| Timestamp::EPOCH + Duration::from_mins(minutes);
        let health = LoopHealth::starting(Timestamp::EPOCH);
        assert_eq!(health.stuck(after(1)), None);
        assert_eq!(health.stuck(after(2)), Some("fast"));
        health.succeeded(TestLoop::Fast, after(6));
        assert_eq!(health.stuck(after(6)), Some("slow"));
        health.succeeded(TestLoop::Slow, after(6));
        assert_eq!(health.stuck(after(6)), None);
    }

    #[test]
    fn a_loop_that_does_not_run_here_is_never_stuck() {
        let health = LoopHealth::starting(Timestamp::EPOCH);
        health.ignore(TestLoop::Fast);
        let later = Timestamp::EPOCH + Duration::from_mins(5);
        assert_eq!(health.stuck(later), None);
    }
}
