//! The trait of setting types: reading and showing one value.
//!
//! Owns the types that several sections share. Its invariant: what [`Setting::show`]
//! prints, [`Setting::read`] takes back. It must not know where a value stands.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use http::HeaderName;
use ipnet::IpNet;

use super::{raw_value::RawValue, reader::nearest};
use cloakroom_domain::http::hygiene::as_read;

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// Reads what was written; the error says what would be right.
    fn read(given: &RawValue) -> Result<Self, String>;

    /// Reads what has to lie between two bounds; the error names them, whatever else could be
    /// written.
    fn read_within(given: &RawValue, bounds: &RangeInclusive<Self>) -> Result<Self, String>
    where
        Self: PartialOrd,
    {
        let value = Self::read(given)?;
        if bounds.contains(&value) {
            return Ok(value);
        }
        Err(beyond(value.show(), bounds.start().show(), bounds.end().show()))
    }

    /// The value as one would write it.
    fn show(&self) -> String;
}

impl Setting for bool {
    fn read(given: &RawValue) -> Result<Self, String> {
        given.truth()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The message about a value outside its bounds.
pub(super) fn beyond(value: impl Display, least: impl Display, most: impl Display) -> String {
    format!("{value} is out of bounds; from {least} to {most} is possible")
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Setting for $number {
            fn read(given: &RawValue) -> Result<Self, String> {
                let number = given.whole()?;
                Self::try_from(number).map_err(|_| beyond(number, Self::MIN, Self::MAX))
            }

            fn read_within(given: &RawValue, bounds: &RangeInclusive<Self>) -> Result<Self, String> {
                let (least, most) = (bounds.start(), bounds.end());
                let number = given
                    .whole()
                    .map_err(|says| format!("{says}; from {least} to {most} is possible"))?;
                let fitting = Self::try_from(number).ok().filter(|fitting| bounds.contains(fitting));
                fitting.ok_or_else(|| beyond(number, least, most))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

whole_numbers!(u16, u32, i32, usize);

impl Setting for String {
    fn read(given: &RawValue) -> Result<Self, String> {
        given.text().map(str::to_owned)
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(given: &RawValue) -> Result<Self, String> {
        T::read(given).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "(unset)".to_owned(), T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(given: &RawValue) -> Result<Self, String> {
        let (mut items, mut wrong) = (Self::new(), Vec::new());
        for item in given.list()? {
            match T::read(&item) {
                Ok(item) => items.push(item),
                Err(says) => wrong.push(says),
            }
        }
        if wrong.is_empty() { Ok(items) } else { Err(wrong.join("; ")) }
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}

impl Setting for SocketAddr {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        // A port alone stands for every address of the machine, of both families.
        let everywhere = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
        everywhere.as_deref().unwrap_or(text).parse().map_err(|_| {
            format!(
                "`{text}` is not an IP address with a port; write one like 127.0.0.1:8080, \
                 0.0.0.0:8080, [::1]:8080, or :8080 for every address"
            )
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for IpNet {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        let alone = || text.parse::<IpAddr>().map(Self::from);
        text.parse().or_else(|_| alone()).map_err(|_| {
            format!("`{text}` is neither an IP address nor a range of them; write one like 10.0.0.0/8 or 192.168.1.7")
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for HeaderName {
    fn read(given: &RawValue) -> Result<Self, String> {
        header_name(given.text()?)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Reads the name of a header field.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| format!("`{text}` is not the name of a header field, like X-User"))
}

/// Fields that frame a message or steer the hop, in any spelling: a setting cannot set or read them for
/// another end.
pub(super) fn is_of_the_connection(name: &HeaderName) -> bool {
    matches!(
        &*as_read(name.as_str()),
        "connection"
            | "content-length"
            | "expect"
            | "host"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Reads one of a few words.
pub(super) fn choose<T: Copy>(given: &RawValue, words: &[(&str, T)]) -> Result<T, String> {
    let text = given.text()?;
    if let Some((_, choice)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    let known = words.iter().map(|(word, _)| *word);
    let hint = nearest(text, known.clone()).map(|near| format!("did you mean {near}? "));
    let known: Vec<_> = known.collect();
    let hint = hint.unwrap_or_default();
    Err(format!("`{text}` is not possible here; {hint}possible: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> RawValue {
        RawValue::Text(text.into())
    }

    #[test]
    fn an_address_without_an_ip_says_how_one_is_written() {
        for wrong in [":", ":http", ":80800", "localhost:8080", "127.0.0.1", "8080"] {
            let says = SocketAddr::read(&text(wrong)).unwrap_err();
            assert!(says.contains(wrong) && says.contains("127.0.0.1:8080"), "{says}");
        }
    }

    #[test]
    fn a_port_alone_is_every_address() {
        let address = SocketAddr::read(&text(":8080")).unwrap();
        assert!(address.ip().is_unspecified() && address.is_ipv6());
        assert_eq!(address.port(), 8080);
        assert_eq!(SocketAddr::read(&text(&address.show())).unwrap(), address);
    }

    #[test]
    fn a_single_address_is_a_range_of_one() {
        let net = IpNet::read(&text("192.168.1.7")).unwrap();
        assert_eq!(net.to_string(), "192.168.1.7/32");
        assert!(IpNet::read(&text("10.0.0.0/40")).is_err());
    }

    #[test]
    fn every_wrong_item_of_a_list_is_named() {
        let list = RawValue::List(vec![text("10.0.0.0/8"), text("x"), text("y")]);
        let says = Vec::<IpNet>::read(&list).unwrap_err();
        assert!(says.contains("`x`") && says.contains("`y`") && !says.contains("`10."), "{says}");
    }

    #[test]
    fn a_word_that_is_nearly_right_is_suggested() {
        let says = choose(&text("asinc"), &[("async", 1), ("sync", 2)]).unwrap_err();
        assert!(says.contains("did you mean async?") && says.contains("async, sync"), "{says}");
        let says = choose(&text("elephant"), &[("async", 1), ("sync", 2)]).unwrap_err();
        assert!(!says.contains("did you mean"), "{says}");
    }

    #[test]
    fn negative_and_oversized_numbers_are_refused() {
        assert!(u32::read(&RawValue::Whole(-1)).is_err());
        assert!(u32::read(&RawValue::Whole(1 << 40)).is_err());
        assert!(usize::read(&RawValue::Whole(-1)).is_err());
        assert!(u32::read(&RawValue::Other("a number with a fraction")).is_err());
    }

    #[test]
    fn a_number_beyond_its_type_is_told_the_bounds_of_its_setting() {
        for number in [-1, 0, 11, i64::MAX] {
            let says = usize::read_within(&RawValue::Whole(number), &(1..=10)).unwrap_err();
            assert!(says.contains("from 1 to 10"), "{number}: {says}");
        }
        assert_eq!(u32::read_within(&RawValue::Whole(10), &(1..=10)), Ok(10));
    }
}
