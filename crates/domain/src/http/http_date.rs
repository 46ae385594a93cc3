//! HTTP dates (RFC 9110 section 5.6.7).
//!
//! Owns reading the three formats and writing one of them. Resolution is whole seconds. It must not
//! know which field holds a date.

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;

use crate::Timestamp;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` and the two obsolete forms
/// `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`.
///
/// A two-digit year more than 50 years after `now` lies in the past. Whether the day of
/// the week is the right one is not checked; a leap second counts as the one before it.
pub fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let (day, month, year, time) = match parts[..] {
        [name, day, month, year, time, "GMT"] if is_day(name.strip_suffix(',')?, 3) => {
            (number(day, 2)?, month, number(year, 4)?, time)
        }
        [name, date, time, "GMT"] if is_day(name.strip_suffix(',')?, usize::MAX) => {
            let mut date = date.split('-');
            let (day, month, year) = (date.next()?, date.next()?, date.next()?);
            let year = full_year(number(year, 2)?, now)?;
            (number(day, 2)?, month, year, date.next().is_none().then_some(time)?)
        }
        [name, month, day, time, year] if is_day(name, 3) => {
            (number(day, day.len().min(2))?, month, number(year, 4)?, time)
        }
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)? as i8 + 1;
    instant(year, month, day as i8, time)
}

fn is_day(name: &str, letters: usize) -> bool {
    DAYS.iter().any(|day| day[..letters.min(day.len())] == *name)
}

fn number(text: &str, digits: usize) -> Option<i16> {
    let plain = text.len() == digits && text.bytes().all(|octet| octet.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn full_year(two_digits: i16, now: Timestamp) -> Option<i16> {
    let present = jiff::Timestamp::from_microsecond(now.as_micros()).ok()?;
    let present = TimeZone::UTC.to_datetime(present).year();
    let year = present - present.rem_euclid(100) + two_digits;
    Some(if year > present + 50 { year - 100 } else { year })
}

fn instant(year: i16, month: i8, day: i8, time: &str) -> Option<Timestamp> {
    let mut time = time.split(':').map(|part| number(part, 2));
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let second = if second == 60 { 59 } else { second };
    if time.next().is_some() {
        return None;
    }
    let civil = DateTime::new(year, month, day, hour as i8, minute as i8, second as i8, 0).ok()?;
    // Not by way of `jiff::Timestamp`, which ends a day before the year 9999 does.
    let since_epoch = civil.duration_since(date(1970, 1, 1).at(0, 0, 0, 0));
    Some(Timestamp::from_micros(since_epoch.as_secs() * 1_000_000))
}

/// Writes an instant as `Sun, 06 Nov 1994 08:49:37 GMT`; fractions of a second are cut
/// off. An instant that no calendar shows is written as the epoch.
pub fn format(instant: Timestamp) -> String {
    let instant = jiff::Timestamp::from_microsecond(instant.as_micros())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    instant.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
    const EXAMPLE: Timestamp = Timestamp::from_micros(784_111_777_000_000);

    #[test]
    fn all_three_formats_are_read() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text, NOW), Some(EXAMPLE), "{text}");
        }
        assert!(parse("Wed Nov 16 08:49:37 1994", NOW).is_some());
    }

    #[test]
    fn a_two_digit_year_is_at_most_50_years_ahead() {
        let year = |text: &str| format(parse(text, NOW).unwrap())[12..16].to_owned();
        assert_eq!(year("Monday, 06-Nov-73 08:49:37 GMT"), "2073");
        assert_eq!(year("Monday, 06-Nov-74 08:49:37 GMT"), "1974");
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "Sunday, 06-Nov-94-1 08:49:37 GMT",
            "Foo, 06 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(parse(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_second_before_it() {
        let read = parse("Sat, 31 Dec 2016 23:59:60 GMT", NOW).unwrap();
        assert_eq!(format(read), "Sat, 31 Dec 2016 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0i64..250_000_000_000) {
            let instant = Timestamp::from_micros(seconds * 1_000_000);
            prop_assert_eq!(parse(&format(instant), NOW), Some(instant));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}", shaped in "[A-Z][a-z]{2,8},? [0-9A-Za-z -]{4,12} [0-9:]{0,9} (GMT|[0-9]{1,5})", now in any::<i64>()) {
            let _ = parse(&text, Timestamp::from_micros(now));
            let _ = parse(&shaped, Timestamp::from_micros(now));
            let _ = format(Timestamp::from_micros(now));
        }
    }
}
