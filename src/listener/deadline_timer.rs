//! A timer for a deadline that keeps moving.
//!
//! While the deadline only moves later, the timer stays set and is checked again when it fires. It must
//! not know what is timed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::{Clock, Sleeper};

/// Goes off at an instant that is named at each look.
pub(super) struct DeadlineTimer {
    clock: Clock,
    set: Option<(Timestamp, Sleeper)>,
}

impl DeadlineTimer {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock, set: None }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Ready once `until` has come; else the task is woken when it may have.
    pub(super) fn poll_until(&mut self, context: &mut Context<'_>, until: Timestamp) -> Poll<()> {
        loop {
            let now = self.clock.now();
            if now >= until {
                return Poll::Ready(());
            }
            match &mut self.set {
                Some((due, sleep)) if *due <= until => {
                    ready!(Pin::new(sleep).poll(context));
                    self.set = None;
                }
                _ => self.set = Some((until, self.clock.sleeper(until.since(now)))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    #[test]
    fn goes_off_when_its_instant_has_come_wherever_that_was_moved_to() {
        let start = Timestamp::EPOCH;
        let clock = Clock::manual(start);
        let mut timer = DeadlineTimer::new(clock.clone());
        let mut context = Context::from_waker(Waker::noop());
        let mut look =
            |seconds| timer.poll_until(&mut context, start + Duration::from_secs(seconds));
        assert!(look(10).is_pending());
        clock.advance(Duration::from_secs(10));
        assert!(look(20).is_pending());
        assert!(look(15).is_pending());
        clock.advance(Duration::from_secs(5));
        assert!(look(20).is_pending());
        assert!(look(15).is_ready());
    }
}
