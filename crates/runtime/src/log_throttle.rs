//! A throttle for log lines that would otherwise come with every request.
//!
//! The first event is logged at once, later ones together, now and then. Its invariant: every event is
//! counted in one line or another, except those after the last line.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// How long the log is spared after a line.
const SPARED: Duration = Duration::from_secs(10);

/// Counts the events since the last line.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<ThrottleState>);

#[derive(Debug, Default)]
struct ThrottleState {
    // By monotonic time.
    said_at: Option<Duration>,
    count: u64,
}

impl LogThrottle {
    /// Records an event. Returns how many events to log now, if a line is due.
    pub fn due(&self, clock: &Clock) -> Option<u64> {
        let now = clock.elapsed();
        // Each change leaves both members whole.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += 1;
        if state.said_at.is_some_and(|at| now.saturating_sub(at) < SPARED) {
            return None;
        }
        state.said_at = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;

    #[test]
    fn the_first_is_told_at_once_and_the_next_ones_together() {
        let (clock, restraint) = (Clock::manual(Timestamp::EPOCH), LogThrottle::default());
        let mut told = Vec::new();
        for seconds in [0, 1, 8, 1, 0, 10] {
            clock.advance(Duration::from_secs(seconds));
            told.push(restraint.due(&clock));
        }
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
