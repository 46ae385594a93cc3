//! Durations, sizes, percentages and rates in the notation of settings.
//!
//! Owns `1h30m`, `16MiB`, `50%` and how `500/s` is asked for. Its invariant: no silent rounding or overflow, and a
//! duration always has a unit.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{
    raw_value::RawValue,
    setting::{Setting, beyond},
};
use cloakroom_domain::limit::Rate;

/// Milliseconds of each unit, longest first.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Bytes of each unit; the binary ones, largest first, are also what is shown.
const BINARY: [(&str, usize); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const DECIMAL: [(&str, usize); 6] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
];

/// So many milliseconds, seconds, minutes, hours or days.
pub(super) const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

pub(super) const fn minutes(number: u64) -> Duration {
    seconds(60 * number)
}

pub(super) const fn hours(number: u64) -> Duration {
    minutes(60 * number)
}

pub(super) const fn days(number: u64) -> Duration {
    hours(24 * number)
}

/// The shortest time that any limit can be.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

impl Setting for Duration {
    fn read(given: &RawValue) -> Result<Self, String> {
        if let RawValue::Whole(number) = given {
            return Err(format!("a duration has a unit; write \"{number}s\" for seconds"));
        }
        let text = given.text()?;
        duration(text).ok_or_else(|| {
            format!("`{text}` is not a duration; write one like 250ms, 30s, 15m, 1h30m or 7d")
        })
    }

    fn show(&self) -> String {
        let mut rest = self.as_millis() as u64;
        if rest == 0 {
            return "0s".to_owned();
        }
        let mut shown = Vec::new();
        for (unit, length) in TIMES {
            // A single day and what is not whole days read better in hours.
            let in_hours = unit == "d" && (!rest.is_multiple_of(length) || rest == length);
            if rest >= length && !in_hours {
                shown.push(format!("{}{unit}", rest / length));
                rest %= length;
            }
        }
        shown.concat()
    }
}

fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let (number, tail) = number(rest)?;
        let letters = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, length) = TIMES.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*length)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(Duration::from_millis(total))
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Size(pub(super) usize);

impl Size {
    pub(super) const fn kib(number: usize) -> Self {
        Self(number << 10)
    }

    pub(super) const fn mib(number: usize) -> Self {
        Self(number << 20)
    }
}

impl Setting for Size {
    fn read(given: &RawValue) -> Result<Self, String> {
        if let RawValue::Whole(number) = given {
            return usize::try_from(*number).map(Self).map_err(|_| not_a_size(number));
        }
        let text = given.text()?;
        size(text).ok_or_else(|| not_a_size(text))
    }

    fn read_within(given: &RawValue, bounds: &RangeInclusive<Self>) -> Result<Self, String> {
        let (least, most) = (bounds.start().show(), bounds.end().show());
        let value = Self::read(given)
            .map_err(|says| format!("{says}; from {least} to {most} is possible"))?;
        if bounds.contains(&value) { Ok(value) } else { Err(beyond(value.show(), least, most)) }
    }

    fn show(&self) -> String {
        let unit =
            BINARY.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        unit.map_or_else(|| self.0.to_string(), |(unit, bytes)| format!("{}{unit}", self.0 / bytes))
    }
}

fn not_a_size(text: impl Display) -> String {
    format!(
        "`{text}` is not a size; write a number of bytes, or one like 64KiB, 16MiB or 1MB (KiB, MiB, \
         GiB, TiB, kB, MB, GB, TB)"
    )
}

fn size(text: &str) -> Option<Size> {
    let (number, unit) = number(text)?;
    let unit = unit.trim_start();
    let known = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == unit);
    let bytes = if unit.is_empty() { 1 } else { known?.1 };
    usize::try_from(number).ok()?.checked_mul(bytes).map(Size)
}

/// A share of something, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Percent(pub(super) u8);

impl Setting for Percent {
    fn read(given: &RawValue) -> Result<Self, String> {
        let read = |text: &str| {
            let (percent, rest) = number(text.strip_suffix('%')?)?;
            u8::try_from(percent).ok().filter(|percent| rest.is_empty() && *percent <= 100)
        };
        let refused = || "a share is written in percent, like \"50%\"".to_owned();
        given.text().ok().and_then(read).map(Self).ok_or_else(refused)
    }

    fn show(&self) -> String {
        format!("{}%", self.0)
    }
}

impl Setting for Rate {
    fn read(given: &RawValue) -> Result<Self, String> {
        if let RawValue::Whole(number) = given {
            return Err(format!("a rate says in what time; write \"{number}/s\" for each second"));
        }
        let text = given.text()?;
        text.parse().map_err(|not| format!("`{text}` is {not}"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::read(&RawValue::Text(text.into()))
    }

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_a_duration_is_refused() {
        for text in ["", "30", "s", "1.5h", "-1s", "30 s", "30S", "1w", "99999999999999999999d"] {
            let says = read::<Duration>(text).unwrap_err();
            assert!(says.contains("30s"), "{text}: {says}");
        }
        assert!(Duration::read(&RawValue::Whole(30)).unwrap_err().contains("\"30s\""));
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, bytes) in [
            ("16MiB", 16 << 20),
            ("64KiB", 64 << 10),
            ("1GiB", 1 << 30),
            ("1MB", 1_000_000),
            ("2kB", 2000),
            ("2KB", 2000),
            ("1GB", 1_000_000_000),
            ("2TiB", 2 << 40),
            ("1TB", 1_000_000_000_000),
            ("12B", 12),
            ("12", 12),
        ] {
            assert_eq!(read(text), Ok(Size(bytes)), "{text}");
        }
        assert_eq!(Size::read(&RawValue::Whole(7)), Ok(Size(7)));
    }

    #[test]
    fn what_is_not_quite_a_size_is_refused() {
        for text in ["", "MiB", "16mib", "1.5MB", "-1", "1PB", "99999999999999GiB"] {
            assert!(read::<Size>(text).unwrap_err().contains("16MiB"), "{text}");
        }
        for given in
            [RawValue::Whole(-1), RawValue::Loose("-1".into()), RawValue::Text("5PiB".into())]
        {
            let says = Size::read_within(&given, &(Size(1)..=Size::mib(1024))).unwrap_err();
            assert!(says.contains("TiB") && says.contains("from 1 to 1GiB"), "{says}");
        }
        let much = Size::read_within(&RawValue::Text("1TiB".into()), &(Size(1)..=Size::mib(1024)));
        assert_eq!(much.unwrap_err(), "1TiB is out of bounds; from 1 to 1GiB is possible");
    }

    #[test]
    fn a_share_is_written_in_percent() {
        assert_eq!(
            (read("50%"), read("0%"), read("100%")),
            (Ok(Percent(50)), Ok(Percent(0)), Ok(Percent(100)))
        );
        for text in ["", "%", "50", "101%", "-1%", "0.5", "5 %", "5%%", "300%"] {
            assert!(read::<Percent>(text).unwrap_err().contains("\"50%\""), "{text}");
        }
        assert!(Percent::read(&RawValue::Whole(50)).is_err());
        assert_eq!(Percent(50).show(), "50%");
    }

    #[test]
    fn a_rate_says_in_what_time() {
        let rate: Rate = read("500/s").unwrap();
        assert_eq!(rate.show(), "500/s");
        assert!(read::<Rate>("500").unwrap_err().contains("`500` is not a rate; write one like"));
        assert!(Rate::read(&RawValue::Whole(30)).unwrap_err().contains("\"30/s\""));
    }

    #[test]
    fn defaults_are_shown_as_they_are_documented() {
        assert_eq!(hours(24).show(), "24h");
        assert_eq!(days(7).show(), "7d");
        assert_eq!(hours(36).show(), "36h");
        assert_eq!(minutes(90).show(), "1h30m");
        assert_eq!(Duration::ZERO.show(), "0s");
        assert_eq!(Size::mib(16).show(), "16MiB");
        assert_eq!(Size(1_000_000).show(), "1000000");
        assert_eq!(Size(0).show(), "0");
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_again(milliseconds in 0u64..10_000_000_000, bytes in any::<u32>()) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(read(&duration.show()), Ok(duration));
            let size = Size(bytes as usize);
            prop_assert_eq!(read(&size.show()), Ok(size));
        }
    }
}
