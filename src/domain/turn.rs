//! Whose turn it is.
//!
//! Owns how a queue's priority and the wait of its oldest weigh against each other.

use std::time::Duration;

/// The most that a priority may be, either way.
pub const MOST_PRIORITY: i32 = 100;

/// What a queue's operations may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Higher goes first.
    pub priority: i32,
    /// How long an operation may wait before it counts as late.
    pub target_wait: Duration,
}

/// A queue of which nothing was said.
impl Default for Expected {
    fn default() -> Self {
        Self { priority: 0, target_wait: Duration::from_mins(1) }
    }
}

impl Expected {
    /// How urgent it is, where the oldest that is due has waited for `age`: the priority,
    /// and 1 for each time that it has waited as long as may be expected. So whoever waits
    /// long enough is served before any priority.
    pub fn urgency(self, age: Duration) -> f64 {
        // A queue that expects no wait at all counts by the millisecond.
        let target = self.target_wait.max(Duration::from_millis(1));
        f64::from(self.priority) + age.as_secs_f64() / target.as_secs_f64()
    }

    /// Whether somebody has waited for longer than may be expected.
    pub fn is_late(self, age: Duration) -> bool {
        age > self.target_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn queue(priority: i32, target_wait: u64) -> Expected {
        Expected { priority, target_wait: Duration::from_secs(target_wait) }
    }

    #[test]
    fn priority_decides_until_somebody_has_waited_too_often_too_long() {
        let (urgent, plain) = (queue(10, 1), queue(0, 60));
        for (waited, urgent_waited, urgent_first) in
            [(0, 0, true), (599, 0, true), (601, 0, false), (601, 1, true), (6000, 1, false)]
        {
            let (plain, urgent) = (
                plain.urgency(Duration::from_secs(waited)),
                urgent.urgency(Duration::from_secs(urgent_waited)),
            );
            assert_eq!(urgent > plain, urgent_first, "{waited} {urgent_waited}");
        }
    }

    #[test]
    fn of_equal_priority_the_one_that_expects_less_of_a_wait_goes_first() {
        let waited = Duration::from_secs(3);
        assert!(queue(0, 1).urgency(waited) > queue(0, 60).urgency(waited));
    }

    proptest! {
        #[test]
        fn whoever_waits_long_enough_comes_before_any_priority(
            low in -MOST_PRIORITY..=MOST_PRIORITY, high in -MOST_PRIORITY..=MOST_PRIORITY, target in 1u64..3600,
        ) {
            let apart = u64::from(high.abs_diff(low)) + 1;
            let waited = Duration::from_secs(target * apart);
            let fresh = queue(high, 1).urgency(Duration::ZERO);
            prop_assert!(queue(low, target).urgency(waited) > fresh);
        }
    }
}
