//! The number of attempts that begin in a second, over all nodes.
//!
//! Owns samples of what has begun ever since it is counted, one for each beat, as far back
//! as a minute. What others count comes with their beats, so the latest beats' worth of it
//! may be missing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How far back it goes.
const WINDOW: Duration = Duration::from_mins(1);

/// What had begun by then, by queue.
type Sample = (Duration, BTreeMap<Arc<str>, u64>);

/// What has begun lately.
#[derive(Debug, Default)]
pub(crate) struct Throughput(Mutex<VecDeque<Sample>>);

impl Throughput {
    /// By `now`, in monotonic time, so many had begun.
    pub(crate) fn sampled(&self, now: Duration, started: BTreeMap<Arc<str>, u64>) {
        let mut samples = self.lock();
        samples.push_back((now, started));
        // One is kept that is older, so that the whole window is covered.
        while samples.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) > WINDOW) {
            samples.pop_front();
        }
    }

    /// How many of a queue begin in a second.
    pub(crate) fn of(&self, queue: &str) -> f64 {
        let samples = self.lock();
        let (Some((since, first)), Some((until, last))) = (samples.front(), samples.back()) else {
            return 0.0;
        };
        let at = |sample: &BTreeMap<Arc<str>, u64>| sample.get(queue).copied().unwrap_or(0);
        let passed = until.saturating_sub(*since).as_secs_f64();
        if passed > 0.0 { at(last).saturating_sub(at(first)) as f64 / passed } else { 0.0 }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_within_the_last_minute_counts() {
        let throughput = Throughput::default();
        assert!(throughput.of("q") < 0.001);
        let started = |count| BTreeMap::from([(Arc::from("q"), count)]);
        throughput.sampled(Duration::ZERO, started(100));
        assert!(throughput.of("q") < 0.001);
        throughput.sampled(Duration::from_secs(10), started(150));
        assert!((throughput.of("q") - 5.0).abs() < 0.001);
        for minute in 1..4 {
            throughput.sampled(Duration::from_mins(minute), started(150));
        }
        assert!(throughput.of("q") < 0.001 && throughput.of("other") < 0.001);
    }
}
