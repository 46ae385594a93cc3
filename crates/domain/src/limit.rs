//! Rates, and the token bucket that enforces one.
//!
//! Its invariant: in any stretch of time no more starts than the rate allows for it, plus one second's
//! worth. It must not know what starts, or how many nodes share a rate: each node has a part of it,
//! which may change.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use super::Timestamp;

const MICROS_PER_SECOND: u64 = 1_000_000;
/// The lengths of time that a rate may speak of, in microseconds.
const UNITS: [(&str, u64); 3] =
    [("s", MICROS_PER_SECOND), ("m", 60 * MICROS_PER_SECOND), ("h", 3600 * MICROS_PER_SECOND)];

/// So many in a second, a minute or an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU64,
    unit: &'static str,
    // The length of the unit, in microseconds.
    per: u64,
}

/// A text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a rate; write one like 500/s, 30/m or 100/h, of at most 1000000")]
pub struct NotARate;

impl Rate {
    /// The most that a rate may count in its unit.
    pub const MOST: u64 = 1_000_000;

    /// What may start in a second, rounded down; at least 1.
    pub fn burst(self) -> u32 {
        let in_a_second = self.count.get() * MICROS_PER_SECOND / self.per;
        u32::try_from(in_a_second).unwrap_or(u32::MAX).max(1)
    }

    /// So many in an hour; none where that is nothing.
    pub fn hourly(count: u64) -> Option<Self> {
        Some(Self { count: NonZeroU64::new(count)?, unit: "h", per: 3600 * MICROS_PER_SECOND })
    }

    /// So many in a minute; none where that is nothing.
    pub fn minutely(count: u64) -> Option<Self> {
        Some(Self { count: NonZeroU64::new(count)?, unit: "m", per: 60 * MICROS_PER_SECOND })
    }

    /// The lower one of two, where there are two.
    #[must_use]
    pub fn lower(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).min_by_key(|rate| rate.in_an_hour())
    }

    /// So many of the equal parts into which it is divided; none where that is nothing.
    #[must_use]
    pub fn part(self, parts: u64, of: u64) -> Option<Self> {
        let hourly = u128::from(self.in_an_hour()) * u128::from(parts) / u128::from(of.max(1));
        Self::hourly(u64::try_from(hourly).ok()?)
    }

    /// What may start in an hour.
    pub const fn in_an_hour(self) -> u64 {
        self.count.get() * (3600 * MICROS_PER_SECOND / self.per)
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (count, named) = text.split_once('/').ok_or(NotARate)?;
        let digits = !count.is_empty() && count.bytes().all(|octet| octet.is_ascii_digit());
        let count = count.parse().ok().filter(|count| digits && *count <= Self::MOST);
        let count = count.and_then(NonZeroU64::new).ok_or(NotARate)?;
        let (unit, per) = UNITS.into_iter().find(|(unit, _)| *unit == named).ok_or(NotARate)?;
        Ok(Self { count, unit, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

/// Keeps a rate: a token for each start, filled evenly up to [`Rate::burst`].
///
/// It counts in whole parts of a token, of which a microsecond brings as many as the rate
/// counts, so that nothing is lost to rounding however long it runs.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    level: u64,
    filled_at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub fn full(rate: Rate, now: Timestamp) -> Self {
        Self { rate, level: u64::from(rate.burst()) * rate.per, filled_at: now }
    }

    /// A bucket that nothing has come into yet.
    pub fn empty(rate: Rate, now: Timestamp) -> Self {
        Self { rate, level: 0, filled_at: now }
    }

    /// A bucket that was empty then, and from which nothing was taken since.
    pub fn emptied_at(rate: Rate, then: Timestamp, now: Timestamp) -> Self {
        let mut bucket = Self::empty(rate, then);
        bucket.fill(now);
        bucket
    }

    /// When it would have been empty, had nothing been taken since: what is left in it, in a
    /// form that holds for any rate and any later time.
    pub fn was_empty_at(&mut self, now: Timestamp) -> Timestamp {
        self.fill(now);
        now - Duration::from_micros(self.level / self.rate.count.get())
    }

    /// How many may start now.
    pub fn available(&mut self, now: Timestamp) -> u32 {
        self.fill(now);
        // At most a burst, which is 32 bits.
        (self.level / self.rate.per) as u32
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let there = self.available(now) > 0;
        if there {
            self.level -= self.rate.per;
        }
        there
    }

    /// Takes back a token of which no use was made.
    pub fn give_back(&mut self) {
        self.level = (self.level + self.rate.per).min(self.most());
    }

    /// When there is a token; `now` if there is one.
    pub fn next_at(&mut self, now: Timestamp) -> Timestamp {
        self.fill(now);
        let missing = self.rate.per.saturating_sub(self.level);
        now + Duration::from_micros(missing.div_ceil(self.rate.count.get()))
    }

    /// Goes on at another rate. What it holds beyond that one's burst is lost.
    pub fn set_rate(&mut self, rate: Rate, now: Timestamp) {
        self.fill(now);
        let tokens = u128::from(self.level) * u128::from(rate.per) / u128::from(self.rate.per);
        self.rate = rate;
        self.level = u64::try_from(tokens).unwrap_or(u64::MAX).min(self.most());
    }

    fn most(&self) -> u64 {
        u64::from(self.rate.burst()) * self.rate.per
    }

    fn fill(&mut self, now: Timestamp) {
        // A clock that was set back brings nothing, and costs no more than that moment.
        let passed = u64::try_from(now.since(self.filled_at).as_micros()).unwrap_or(u64::MAX);
        let brought = passed.saturating_mul(self.rate.count.get());
        self.level = self.level.saturating_add(brought).min(self.most());
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    const fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros as i64)
    }

    #[test]
    fn rates_are_read_and_shown_alike() {
        for (text, burst) in [("500/s", 500), ("30/m", 1), ("120/m", 2), ("100/h", 1), ("1/s", 1)] {
            assert_eq!((rate(text).to_string(), rate(text).burst()), (text.to_owned(), burst));
        }
    }

    #[test]
    fn what_is_not_quite_a_rate_is_refused() {
        for text in
            ["", "5", "/s", "0/s", "-1/s", "+1/s", "5/", "5/d", "5 /s", "1.5/s", "1000001/s"]
        {
            assert_eq!(text.parse::<Rate>(), Err(NotARate), "{text}");
        }
    }

    #[test]
    fn a_burst_is_followed_by_one_token_after_the_other() {
        let mut bucket = Bucket::full(rate("2/s"), at(0));
        assert!(bucket.take(at(0)) && bucket.take(at(0)) && !bucket.take(at(0)));
        assert_eq!(bucket.next_at(at(0)), at(500_000));
        assert!(!bucket.take(at(499_999)) && bucket.take(at(500_000)));
        assert_eq!(bucket.available(at(9_000_000)), 2);
    }

    #[test]
    fn a_token_given_back_is_there_again_but_never_more_than_a_burst() {
        let mut bucket = Bucket::full(rate("1/m"), at(0));
        assert!(bucket.take(at(0)) && !bucket.take(at(0)));
        bucket.give_back();
        bucket.give_back();
        assert!(bucket.take(at(0)) && !bucket.take(at(0)));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_no_start_for_long() {
        let mut bucket = Bucket::full(rate("1/s"), at(3_600_000_000));
        assert!(bucket.take(at(3_600_000_000)));
        assert!(!bucket.take(at(0)) && bucket.take(at(1_000_000)));
    }

    #[test]
    fn a_smaller_part_of_a_rate_counts_from_now_on() {
        let mut bucket = Bucket::full(rate("100/s"), at(0));
        bucket.set_rate(Rate::hourly(rate("100/s").in_an_hour() / 10).unwrap(), at(0));
        assert_eq!((bucket.available(at(0)), bucket.available(at(2_000_000))), (10, 10));
        bucket.set_rate(rate("120/m"), at(2_000_000));
        assert_eq!(bucket.available(at(2_000_000)), 2);
    }

    #[test]
    fn what_is_left_in_a_bucket_is_there_after_a_restart_and_no_more() {
        let mut before = Bucket::full(rate("4/s"), at(9_000_000));
        (0..3).for_each(|_| assert!(before.take(at(9_000_000))));
        let then = before.was_empty_at(at(9_000_000));
        assert_eq!(then, at(8_750_000));
        let mut after = Bucket::emptied_at(rate("4/s"), then, at(9_250_000));
        assert!(after.take(at(9_250_000)) && after.take(at(9_250_000)));
        assert!(!after.take(at(9_250_000)));
        let mut hourly = Bucket::emptied_at(rate("1/h"), then, at(9_250_000));
        assert!(!hourly.take(at(9_250_000)));
        let mut behind = Bucket::emptied_at(rate("1/s"), at(90_000_000), at(9_000_000));
        assert!(!behind.take(at(9_000_000)) && behind.take(at(10_000_000)));
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1u64..=Rate::MOST, prop_oneof!["s", "m", "h"])
            .prop_map(|(count, unit)| rate(&format!("{count}/{unit}")))
    }

    proptest! {
        #[test]
        fn never_more_starts_than_the_rate_and_one_second_s_worth(
            rate in rates(),
            pauses in proptest::collection::vec(0u64..5_000_000, 1..40),
        ) {
            let mut bucket = Bucket::full(rate, at(0));
            let (mut now, mut started) = (0, 0u64);
            for pause in pauses {
                now += pause;
                let there = bucket.available(at(now)).min(300);
                for _ in 0..there {
                    prop_assert!(bucket.take(at(now)));
                }
                started += u64::from(there);
                let allowed = now * rate.count.get() / rate.per;
                prop_assert!(started <= allowed + u64::from(rate.burst()));
            }
        }

        #[test]
        fn there_is_a_token_when_it_is_said_and_not_before(rate in rates(), now in 0u64..9_000_000) {
            let mut bucket = Bucket::full(rate, at(0));
            for _ in 0..rate.burst() {
                prop_assert!(bucket.take(at(0)));
            }
            let next = bucket.next_at(at(now));
            prop_assert!(bucket.clone().take(next));
            if next > at(now) {
                let before = next - Duration::from_micros(1);
                prop_assert!(!bucket.take(before));
            }
        }
    }
}
