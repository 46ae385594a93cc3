//! The urgency of queues, and the precedence of operations that have waited too long.
//!
//! Owns how a queue's priority and the wait of its oldest operation weigh against each other.

use std::collections::HashMap;
use std::time::Duration;

use super::Timestamp;
use super::operation::Lane;

/// The most that a priority may be, either way.
pub const MOST_PRIORITY: i32 = 100;

/// The priority and target wait of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueTarget {
    /// Higher goes first.
    pub priority: i32,
    /// How long an operation may wait before it counts as late.
    pub target_wait: Duration,
}

/// The target of a queue without settings.
impl Default for QueueTarget {
    fn default() -> Self {
        Self { priority: 0, target_wait: Duration::from_mins(1) }
    }
}

impl QueueTarget {
    /// How urgent it is, where the oldest that is due has waited for `age`: the priority,
    /// and 1 for each time that it has waited as long as may be expected. So an operation that
    /// waits long enough is served before any priority.
    pub fn urgency(self, age: Duration) -> f64 {
        // A queue that expects no wait at all counts by the millisecond.
        let target = self.target_wait.max(Duration::from_millis(1));
        f64::from(self.priority) + age.as_secs_f64() / target.as_secs_f64()
    }

    /// Whether the oldest operation has waited longer than the target.
    pub fn is_late(self, age: Duration) -> bool {
        age > self.target_wait
    }
}

/// How long an operation waits before the next permit is its own, though clients wait for others.
const OVERDUE: Duration = Duration::from_secs(1);
/// So many attempts that a client waits for go before the next operation of one lane that does not
/// wait for a second longer.
const ON_THE_LINE: u64 = 3;

/// When an operation that has waited for too long goes before those that a client waits for.
///
/// Each lane has a turn after three of those, or after one if a second has passed; all lanes
/// together have one turn for each of those at most.
#[derive(Debug, Default)]
pub struct Precedence {
    last_turns: HashMap<Lane, (Timestamp, u64)>,
    on_the_line: u64,
    turns_left: u64,
}

impl Precedence {
    /// So many attempts have begun in all that a client waited for.
    pub fn note(&mut self, on_the_line: u64) {
        let more = on_the_line.saturating_sub(self.on_the_line);
        self.on_the_line = on_the_line;
        self.turns_left = (self.turns_left + more).min(ON_THE_LINE);
    }

    /// Whether the next permit is this lane's, where its oldest has been due for `age`.
    pub fn is_due(&self, lane: &Lane, age: Duration, now: Timestamp) -> bool {
        let Some((last, before)) = self.last_turns.get(lane) else {
            return self.turns_left > 0 && age >= OVERDUE;
        };
        let needed = if now.since(*last) >= OVERDUE { 1 } else { ON_THE_LINE };
        self.turns_left > 0 && age >= OVERDUE && self.on_the_line - before >= needed
    }

    /// The lane has had a turn.
    pub fn had_turn(&mut self, lane: &Lane, now: Timestamp) {
        self.turns_left = self.turns_left.saturating_sub(1);
        // Long ago counts as never.
        self.last_turns.retain(|_, (last, _)| now.since(*last) <= OVERDUE * 10);
        self.last_turns.insert(lane.clone(), (now, self.on_the_line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn queue(priority: i32, target_wait: u64) -> QueueTarget {
        QueueTarget { priority, target_wait: Duration::from_secs(target_wait) }
    }

    #[test]
    fn priority_decides_until_an_operation_has_waited_much_too_long() {
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

    fn lane(queue: &str) -> Lane {
        Lane { queue: queue.into(), upstream: "u".into(), express: false, quarantine: false }
    }

    /// How many operations of each lane begin in ten seconds on slots of which one is free so
    /// often, while clients always wait.
    fn begun_in_ten_seconds(lanes: &[Lane], every: Duration) -> Vec<usize> {
        let (mut precedence, mut on_the_line) = (Precedence::default(), 0);
        let mut begun = vec![0; lanes.len()];
        let mut now = Timestamp::EPOCH;
        while now < Timestamp::EPOCH + Duration::from_secs(10) {
            now = now + every;
            precedence.note(on_the_line);
            let age = now.since(Timestamp::EPOCH);
            match lanes.iter().position(|lane| precedence.is_due(lane, age, now)) {
                Some(place) => {
                    precedence.had_turn(&lanes[place], now);
                    begun[place] += 1;
                }
                None => on_the_line += 1,
            }
        }
        begun
    }

    #[test]
    fn five_of_a_queue_begin_in_ten_seconds_however_long_those_take_that_clients_wait_for() {
        for millis in [1, 20, 250, 500, 750] {
            let begun = begun_in_ten_seconds(&[lane("plain")], Duration::from_millis(millis));
            assert!(begun[0] >= 5, "{millis}: {begun:?}");
        }
    }

    #[test]
    fn however_many_queues_wait_half_of_all_turns_are_for_those_that_clients_wait_for() {
        let lanes: Vec<_> = (0..50).map(|it| lane(&it.to_string())).collect();
        let begun: usize = begun_in_ten_seconds(&lanes, Duration::from_millis(10)).iter().sum();
        assert!((300..=500).contains(&begun), "{begun}");
    }

    #[test]
    fn what_has_just_come_has_no_turn_and_neither_has_any_where_no_client_waits() {
        let mut precedence = Precedence::default();
        let now = Timestamp::EPOCH;
        assert!(!precedence.is_due(&lane("plain"), OVERDUE, now), "no client waits");
        precedence.note(1);
        assert!(!precedence.is_due(&lane("plain"), OVERDUE / 2, now));
        assert!(precedence.is_due(&lane("plain"), OVERDUE, now));
    }

    proptest! {
        #[test]
        fn an_operation_that_waits_long_enough_comes_before_any_priority(
            low in -MOST_PRIORITY..=MOST_PRIORITY, high in -MOST_PRIORITY..=MOST_PRIORITY, target in 1u64..3600,
        ) {
            let apart = u64::from(high.abs_diff(low)) + 1;
            let waited = Duration::from_secs(target * apart);
            let fresh = queue(high, 1).urgency(Duration::ZERO);
            prop_assert!(queue(low, target).urgency(waited) > fresh);
        }
    }
}
