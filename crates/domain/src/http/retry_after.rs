//! `Retry-After`, as others send it and as the gateway sends it (RFC 9110 section 10.2.3).
//!
//! Owns reading both forms, and writing one: whole seconds from 1 to 30, because stock clients stumble
//! over zero and over dates. It must not know the reason for the wait.

use std::ops::RangeInclusive;
use std::time::Duration;

use ::http::header::{HeaderMap, HeaderValue, RETRY_AFTER};

use super::grammar::{trim, whole_number};
use super::http_date;
use crate::Timestamp;

/// The longest wait that is taken from the field: a year.
pub const LONGEST: Duration = Duration::from_hours(365 * 24);

/// What an answer says about when to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryAfter {
    /// Nothing: the field is not there.
    #[default]
    Absent,
    /// Something that is neither seconds nor a date.
    Unreadable,
    /// That long from now, at most [`LONGEST`].
    In(Duration),
}

impl RetryAfter {
    /// Reads the field of an answer that came at `now`. The first line that can be read counts.
    pub fn of(headers: &HeaderMap, now: Timestamp) -> Self {
        let mut lines = headers.get_all(RETRY_AFTER).iter().peekable();
        if lines.peek().is_none() {
            return Self::Absent;
        }
        lines.find_map(|line| parse(line, now)).map_or(Self::Unreadable, Self::In)
    }

    /// Whether the field is there, readable or not.
    pub const fn is_given(self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The wait, where it can be read.
    pub const fn wait(self) -> Option<Duration> {
        match self {
            Self::In(wait) => Some(wait),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// How long to wait from `now`, from seconds or a date; a date that has passed is zero.
/// At most [`LONGEST`]. What is neither is `None`.
pub fn parse(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = trim(value.to_str().ok()?);
    let wait = match whole_number(text) {
        Some(seconds) => Duration::from_secs(seconds),
        None => http_date::parse(text, now)?.since(now),
    };
    Some(wait.min(LONGEST))
}

/// As [`parse`], but not shorter or longer than the bounds.
pub fn parse_within(
    value: &HeaderValue,
    now: Timestamp,
    bounds: RangeInclusive<Duration>,
) -> Option<Duration> {
    let wait = parse(value, now)?;
    Some(wait.min(*bounds.end()).max(*bounds.start()))
}

/// The gateway's own `Retry-After`: whole seconds, rounded up, 1 to 30.
pub fn format(wait: Duration) -> HeaderValue {
    HeaderValue::from(seconds(wait))
}

/// The number that [`format`] writes.
pub fn seconds(wait: Duration) -> u64 {
    let rounded_up = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    rounded_up.clamp(1, 30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Tue, 14 Nov 2023 22:13:20 GMT
    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn parsed(text: &str) -> Option<Duration> {
        parse(&HeaderValue::from_str(text).unwrap(), NOW)
    }

    #[test]
    fn seconds_and_dates_are_read() {
        assert_eq!(parsed("119"), Some(Duration::from_secs(119)));
        assert_eq!(parsed(" 0 "), Some(Duration::ZERO));
        assert_eq!(parsed("Tue, 14 Nov 2023 22:13:50 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(parsed("Tue, 14 Nov 2023 22:13:00 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_neither_is_nothing() {
        for text in ["", "-1", "1.5", "soon", "2023-11-14T22:13:50Z"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_is_there_all_the_same() {
        let of = |lines: &[&'static str]| {
            let line = |line: &&'static str| (RETRY_AFTER, HeaderValue::from_static(line));
            RetryAfter::of(&lines.iter().map(line).collect(), NOW)
        };
        assert_eq!(of(&[]), RetryAfter::Absent);
        for unreadable in ["", "1.5", "-1", "soon", "1, 2", "Tue, 99 Nov 2023 22:13:50 GMT"] {
            assert_eq!(of(&[unreadable]), RetryAfter::Unreadable, "{unreadable}");
        }
        assert_eq!(of(&["7"]), RetryAfter::In(Duration::from_secs(7)));
        assert_eq!(of(&["soon", "7"]), RetryAfter::In(Duration::from_secs(7)));
        assert_eq!(of(&["99999999999999999999999999"]), RetryAfter::In(LONGEST));
    }

    #[test]
    fn a_wait_has_bounds() {
        assert_eq!(parsed("99999999999999999999999999"), Some(LONGEST));
        assert_eq!(parsed("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LONGEST));
        let bounds = Duration::from_secs(1)..=Duration::from_mins(1);
        let within = |text| parse_within(&HeaderValue::from_static(text), NOW, bounds.clone());
        assert_eq!(within("0"), Some(Duration::from_secs(1)));
        assert_eq!(within("7"), Some(Duration::from_secs(7)));
        assert_eq!(within("3600"), Some(Duration::from_mins(1)));
        assert_eq!(within("x"), None);
    }

    #[test]
    fn the_gateways_own_is_whole_seconds_from_1_to_30() {
        assert_eq!(format(Duration::ZERO), "1");
        assert_eq!(format(Duration::from_millis(1_001)), "2");
        assert_eq!(format(Duration::from_secs(30)), "30");
        assert_eq!(format(Duration::MAX), "30");
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                prop_assert!(parse(&value, NOW).is_none_or(|wait| wait <= LONGEST));
            }
        }
    }
}
