//! When each loop of the engine last got its work done.
//!
//! Owns the last success of every loop and how old it may grow, for `readyz`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cloakroom_domain::Timestamp;

/// A loop of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    Dispatcher,
    Follower,
    Expiry,
    Pruner,
    Nodes,
    Delays,
}

impl Loop {
    const ALL: [Self; 6] =
        [Self::Dispatcher, Self::Follower, Self::Expiry, Self::Pruner, Self::Nodes, Self::Delays];

    const fn name(self) -> &'static str {
        match self {
            Self::Dispatcher => "dispatcher",
            Self::Follower => "follower",
            Self::Expiry => "expiry",
            Self::Pruner => "pruner",
            Self::Nodes => "beat",
            Self::Delays => "delays",
        }
    }

    /// How old a last success may be: several rounds of the loop.
    const fn patience(self) -> Duration {
        match self {
            Self::Dispatcher | Self::Follower | Self::Nodes => Duration::from_mins(1),
            Self::Expiry | Self::Pruner | Self::Delays => Duration::from_mins(5),
        }
    }
}

/// The last success of each loop.
#[derive(Debug)]
pub(super) struct Beats([AtomicI64; 6]);

impl Beats {
    /// Every loop counts as well at the start; those that carry out, for ever where the
    /// node does not work.
    pub(super) fn starting(now: Timestamp, works: bool) -> Self {
        let beats = Self(std::array::from_fn(|_| AtomicI64::new(now.as_micros())));
        if !works {
            for which in [Loop::Dispatcher, Loop::Follower] {
                beats.beat(which, Timestamp::from_micros(i64::MAX));
            }
        }
        beats
    }

    /// A loop got its work done.
    pub(super) fn beat(&self, which: Loop, now: Timestamp) {
        self.0[which as usize].store(now.as_micros(), Ordering::Relaxed);
    }

    /// A loop whose last success is too old.
    pub(super) fn stalled(&self, now: Timestamp) -> Option<&'static str> {
        let last =
            |which: Loop| Timestamp::from_micros(self.0[which as usize].load(Ordering::Relaxed));
        let late = |which: &Loop| now.since(last(*which)) > which.patience();
        Loop::ALL.into_iter().find(late).map(Loop::name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_fell_silent_is_named() {
        let beats = Beats::starting(Timestamp::EPOCH, true);
        let later = Timestamp::EPOCH + Duration::from_secs(61);
        beats.beat(Loop::Dispatcher, later);
        beats.beat(Loop::Nodes, later);
        assert_eq!(beats.stalled(later), Some("follower"));
        let front = Beats::starting(Timestamp::EPOCH, false);
        front.beat(Loop::Nodes, later);
        assert_eq!(front.stalled(later), None);
        beats.beat(Loop::Follower, later);
        assert_eq!(beats.stalled(later), None);
    }
}
