//! The time limit of an attempt.
//!
//! Owns what counts as the upstream's time: only the time spent waiting for it. While the ledger does
//! not take a chunk of a response, the upstream is not to blame, and the attempt must not end as a
//! timeout. It counts by monotonic time: ledger time may step, and no attempt ends of that. It must not
//! know what the caller waits for.

use std::time::Duration;

use cloakroom_runtime::clock::{Clock, TimeLimitExceeded};

/// What is left of a time limit.
pub(super) struct AttemptTimeout<'a> {
    clock: &'a Clock,
    left: Duration,
}

impl<'a> AttemptTimeout<'a> {
    pub(super) const fn of(clock: &'a Clock, limit: Duration) -> Self {
        Self { clock, left: limit }
    }

    /// Whether more than that is left.
    pub(super) fn has(&self, time: Duration) -> bool {
        self.left > time
    }

    /// Waits for the upstream for as long as there is time left.
    pub(super) async fn wait_for<F: Future>(
        &mut self,
        upstream: F,
    ) -> Result<F::Output, TimeLimitExceeded> {
        let began = self.clock.elapsed();
        let output = self.clock.timeout(self.left, upstream).await;
        self.left = self.left.saturating_sub(self.clock.elapsed().saturating_sub(began));
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;

    #[tokio::test]
    async fn a_step_of_ledger_time_takes_nothing_off() {
        let clock = Clock::system();
        clock.steer(clock.now());
        let mut time_left = AttemptTimeout::of(&clock, Duration::from_mins(10));
        let before = clock.now();
        let stepping = async {
            // It is believed the second time.
            let later = clock.now() + Duration::from_hours(1);
            clock.steer(later);
            clock.steer(later);
        };
        assert_eq!(time_left.wait_for(stepping).await, Ok(()));
        assert!(clock.now().since(before) >= Duration::from_mins(30), "it has stepped");
        assert!(time_left.has(Duration::from_mins(5)));
    }

    #[tokio::test]
    async fn only_what_the_upstream_took_is_taken_off() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let mut time_left = AttemptTimeout::of(&clock, Duration::from_secs(10));
        let slow = async { clock.advance(Duration::from_secs(7)) };
        assert_eq!(time_left.wait_for(slow).await, Ok(()));
        clock.advance(Duration::from_mins(1));
        assert_eq!(time_left.left, Duration::from_secs(3));
        let (never, late) = (std::future::pending::<()>(), Duration::from_secs(3));
        let waiting = time_left.wait_for(never);
        let (waited, ()) = tokio::join!(waiting, async { clock.advance(late) });
        assert_eq!(waited, Err(TimeLimitExceeded));
    }
}
