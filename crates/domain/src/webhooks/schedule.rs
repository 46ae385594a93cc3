//! The retry schedule of a delivery: the decision after an attempt.
//!
//! The times are the contract's: ten attempts, with pauses from five seconds to a day, each varied by a
//! fifth; `Retry-After` may lengthen a pause and never shortens one. The invariant: a delivery that is
//! not over has its next attempt before its deadline, and a deadline never moves.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::Timestamp;

/// Every delivery ends so long after it was made.
pub const DEADLINE: Duration = Duration::from_hours(5 * 24);
/// What came for a disabled subscription is kept so long.
pub const HELD: Duration = Duration::from_hours(30 * 24);
/// A result whose deliveries are under way is kept so long after the operation ended.
pub const RESULT_KEPT: Duration = Duration::from_hours(6 * 24);
/// How soon it is looked again whether they still are.
pub const LOOKED_AT_AGAIN: Duration = Duration::from_hours(1);
/// A receiver that has done nothing but fail for so long is disabled.
pub const HOPELESS: Duration = Duration::from_hours(5 * 24);
/// The pauses after the first, the second, … attempt.
const PAUSES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
/// What costs no attempt takes no longer pause than this one of them, and each time a longer
/// one up to that: five days of refusals are some hundreds of attempts.
const LAST_OF_REFUSALS: usize = 2;
/// The most that a receiver may ask us to wait.
const LONGEST_WISH: Duration = Duration::from_hours(24);

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendResult {
    /// A status in 200 to 299.
    Taken,
    /// 410: the receiver wants no more.
    Gone,
    /// Anything else.
    Failed {
        /// The status, where there was one.
        status: Option<u16>,
        /// How long the receiver asks us to wait.
        retry_after: Option<Duration>,
    },
}

/// A delivery's progress at the end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryProgress {
    /// Attempts begun, this one included.
    pub attempts: u32,
    /// Those of them that did not count, this one not included.
    pub refusals: u32,
    /// When it ends, whatever has become of it.
    pub deadline_at: Timestamp,
}

/// The reason why a delivery is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleEnd {
    /// The receiver has it.
    Delivered,
    /// No attempt or no time is left.
    Exhausted,
    /// The receiver wants no more.
    Gone,
}

/// The decision after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryDecision {
    /// Nothing: it is over.
    Over(ScheduleEnd),
    /// Another attempt.
    Again {
        /// When.
        due_at: Timestamp,
        /// Attempts that did not count, from now on.
        refusals: u32,
    },
}

/// Decides whether another attempt follows, and when.
pub fn settle(
    standing: DeliveryProgress,
    attempted: SendResult,
    now: Timestamp,
    rng: &mut impl Rng,
) -> DeliveryDecision {
    let (status, wish) = match attempted {
        SendResult::Taken => return DeliveryDecision::Over(ScheduleEnd::Delivered),
        SendResult::Gone => return DeliveryDecision::Over(ScheduleEnd::Gone),
        SendResult::Failed { status, retry_after } => (status, retry_after),
    };
    let is_refusal = matches!(status, Some(429 | 503)) && wish.is_some();
    let refusals = standing.refusals + u32::from(is_refusal);
    let counted = standing.attempts.saturating_sub(refusals) as usize;
    let place = match is_refusal {
        // It takes the pause of the attempt that it would have been, at least.
        true => counted.max((refusals as usize - 1).min(LAST_OF_REFUSALS)),
        false => counted.saturating_sub(1),
    };
    let Some(pause) = PAUSES.get(place) else {
        return DeliveryDecision::Over(ScheduleEnd::Exhausted);
    };
    let pause = pause.mul_f64(rng.random_range(0.8..=1.2));
    let pause = pause.max(wish.unwrap_or_default().min(LONGEST_WISH));
    let due_at = now + pause;
    if due_at >= standing.deadline_at {
        return DeliveryDecision::Over(ScheduleEnd::Exhausted);
    }
    DeliveryDecision::Again { due_at, refusals }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
