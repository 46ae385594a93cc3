//! The rules for reusing idle connections to an upstream.
//!
//! Owns what an upstream's habits allow. Its invariant: a request that must not be sent twice uses an
//! idle connection only if an earlier connection was seen to stay open for at least as long as this
//! one may have been idle. It must not know of sockets.

use std::time::Duration;

use super::Timestamp;
use super::operation::DeliveryGuarantee;

/// How long a connection may have been idle for a request that must not be sent twice; also how
/// long one must have been seen open.
const AT_MOST_ONCE: Duration = Duration::from_secs(1);
/// How long for any other. Node closes after five seconds, and many do as Node does.
const AT_LEAST_ONCE: Duration = Duration::from_secs(4);
/// How long an answer whose end no field tells is waited upon for what may still come.
const REST: Duration = Duration::from_secs(1);
/// How long an upstream is remembered to have closed a connection without having said so.
const MEMORY: Duration = Duration::from_mins(10);

/// Whether connections are used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// As the upstream's habits tell.
    #[default]
    Auto,
    /// Each request goes onto a connection of its own.
    Never,
    /// Also for requests that must not be sent twice, without having seen anything.
    Always,
}

impl Reuse {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Never, Self::Always];

    /// Its word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

/// How the names of fields are written, for services that compare them letter by letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderCase {
    /// `content-type`.
    #[default]
    Lower,
    /// `Content-Type`.
    Title,
}

impl HeaderCase {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Lower, Self::Title];

    /// Its word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Title => "title",
        }
    }
}

/// What was seen of an upstream's idle connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionHabit {
    keeps: bool,
    closed_at: Option<Timestamp>,
}

impl ConnectionHabit {
    /// A connection that is idle since that instant is open.
    pub fn saw_open(&mut self, since: Timestamp, now: Timestamp) {
        self.keeps |= now.since(since) >= AT_MOST_ONCE;
    }

    /// A connection that was to stay open has been closed.
    pub const fn saw_closed(&mut self, now: Timestamp) {
        *self = Self { keeps: false, closed_at: Some(now) };
    }

    /// How long a connection may have been idle to carry such a request; none where it gets one
    /// of its own.
    pub fn idle_limit(
        self,
        reuse: Reuse,
        delivery: DeliveryGuarantee,
        now: Timestamp,
    ) -> Option<Duration> {
        let suspected = self.closed_at.is_some_and(|at| is_within(MEMORY, at, now));
        match (reuse, delivery) {
            (Reuse::Never, _) => None,
            (_, DeliveryGuarantee::AtLeastOnce) => Some(AT_LEAST_ONCE),
            (Reuse::Always, DeliveryGuarantee::AtMostOnce) => Some(AT_MOST_ONCE),
            (Reuse::Auto, DeliveryGuarantee::AtMostOnce) => {
                (self.keeps && !suspected).then_some(AT_MOST_ONCE)
            }
        }
    }
}

/// A connection that carries no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleConnection {
    /// Since when.
    pub since: Timestamp,
    /// Whether content may still follow an answer that has none (to HEAD, 204 and 304).
    pub rests: bool,
}

impl IdleConnection {
    /// Whether it may carry a request that allows so long an idleness.
    pub fn suits(self, limit: Duration, now: Timestamp) -> bool {
        let has_rested = !self.rests || now.since(self.since) >= REST;
        has_rested && is_within(limit, self.since, now)
    }

    /// Whether it may still come to carry one.
    pub fn is_of_use(self, now: Timestamp) -> bool {
        is_within(AT_LEAST_ONCE, self.since, now)
    }
}

/// Whether it is at most `limit` since an instant. One in the future says that the clock was set
/// back: then how long it is cannot be known, and it counts as longer.
fn is_within(limit: Duration, since: Timestamp, now: Timestamp) -> bool {
    since <= now && now.since(since) <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn at(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    #[test]
    fn a_request_that_must_not_be_sent_twice_waits_for_an_idle_connection_that_stays_open() {
        use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};
        let second = Some(Duration::from_secs(1));
        let four = Some(Duration::from_secs(4));
        let unknown = ConnectionHabit::default();
        let young = {
            let mut habit = unknown;
            habit.saw_open(START, at(999));
            habit
        };
        let keeps = {
            let mut habit = unknown;
            habit.saw_open(START, at(1000));
            habit
        };
        let closed = {
            let mut habit = keeps;
            habit.saw_closed(at(2000));
            habit
        };
        let kept_again = {
            let mut habit = closed;
            habit.saw_open(at(3000), at(4000));
            habit
        };
        let minutes = |count: u64| 2000 + count * 60_000;
        for (habit, reuse, delivery, now, limit) in [
            (unknown, Reuse::Auto, AtMostOnce, 0, None),
            (unknown, Reuse::Auto, AtLeastOnce, 0, four),
            (unknown, Reuse::Always, AtMostOnce, 0, second),
            (unknown, Reuse::Never, AtMostOnce, 0, None),
            (unknown, Reuse::Never, AtLeastOnce, 0, None),
            (young, Reuse::Auto, AtMostOnce, 999, None),
            (keeps, Reuse::Auto, AtMostOnce, 1000, second),
            (keeps, Reuse::Never, AtMostOnce, 1000, None),
            (closed, Reuse::Auto, AtMostOnce, 2000, None),
            (closed, Reuse::Auto, AtLeastOnce, 2000, four),
            (closed, Reuse::Always, AtMostOnce, 2000, second),
            (closed, Reuse::Auto, AtMostOnce, minutes(11), None),
            (kept_again, Reuse::Auto, AtMostOnce, 4000, None),
            (kept_again, Reuse::Auto, AtMostOnce, minutes(10), None),
            (kept_again, Reuse::Auto, AtMostOnce, minutes(10) + 1, second),
        ] {
            let found = habit.idle_limit(reuse, delivery, at(now));
            assert_eq!(found, limit, "{habit:?} {reuse:?} {delivery:?} at {now}");
        }
    }

    #[test]
    fn a_connection_whose_answer_may_be_followed_by_more_rests_a_second() {
        for (rests, now, suits) in [
            (false, 0, true),
            (false, 4000, true),
            (false, 4001, false),
            (true, 0, false),
            (true, 999, false),
            (true, 1000, true),
            (true, 4000, true),
            (true, 4001, false),
        ] {
            let idle = IdleConnection { since: START, rests };
            assert_eq!(idle.suits(AT_LEAST_ONCE, at(now)), suits, "{rests} at {now}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_connection_younger() {
        let idle = IdleConnection { since: at(6000), rests: false };
        assert!(!idle.suits(AT_LEAST_ONCE, at(5000)) && !idle.is_of_use(at(5000)));
    }
}
