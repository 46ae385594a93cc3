//! Range requests for a recorded body (RFC 9110 section 14).
//!
//! Owns the reading of `Range` and `If-Range`. What it does not understand, several
//! ranges included, is ignored, as the RFC allows: the whole is given then.

use std::ops::Range;

use http::HeaderMap;
use http::header::{self, HeaderName};

/// Which part of a body to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BodyRange {
    Whole,
    /// From the first octet to before the last.
    Some(Range<u64>),
    /// Nothing of it is there (416).
    Beyond,
}

/// The part of a body of `length` octets with this tag that a request asks for.
pub(super) fn wanted(headers: &HeaderMap, etag: &str, length: u64) -> BodyRange {
    let stale = headers.get(header::IF_RANGE).is_some_and(|tag| tag.as_bytes() != etag.as_bytes());
    let range = only(headers, &header::RANGE).filter(|_| !stale);
    let Some((first, last)) = range.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'))
    else {
        return BodyRange::Whole;
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => {
            clipped(first, last.saturating_add(1), length)
        }
        (Some(first), None) if last.trim().is_empty() => clipped(first, length, length),
        (None, Some(suffix)) if first.trim().is_empty() => {
            if suffix == 0 {
                BodyRange::Beyond
            } else {
                clipped(length.saturating_sub(suffix), length, length)
            }
        }
        _ => BodyRange::Whole,
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.to_str().ok()?.trim();
    lines.next().is_none().then_some(first)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    // More digits than fit lie beyond every body.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn clipped(first: u64, end: u64, length: u64) -> BodyRange {
    if first >= length { BodyRange::Beyond } else { BodyRange::Some(first..end.min(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(HeaderName, &str)]) -> BodyRange {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), value.parse().unwrap());
        }
        wanted(&headers, "\"tag\"", 10)
    }

    #[test]
    fn one_range_is_clipped_to_the_body() {
        for (range, part) in [
            ("bytes=2-4", BodyRange::Some(2..5)),
            ("bytes=7-", BodyRange::Some(7..10)),
            ("bytes=-3", BodyRange::Some(7..10)),
            ("bytes=-30", BodyRange::Some(0..10)),
            ("bytes=8-100", BodyRange::Some(8..10)),
            ("bytes=0-99999999999999999999999", BodyRange::Some(0..10)),
            ("bytes=10-", BodyRange::Beyond),
            ("bytes=-0", BodyRange::Beyond),
        ] {
            assert_eq!(of(&[(header::RANGE, range)]), part, "{range}");
        }
    }

    #[test]
    fn what_is_not_one_range_gives_the_whole() {
        for range in [
            "bytes=1-2,4-5",
            "bytes=4-2",
            "bytes=-",
            "bytes=a-b",
            "lines=1-2",
            "bytes",
            "bytes=+1-2",
        ] {
            assert_eq!(of(&[(header::RANGE, range)]), BodyRange::Whole, "{range}");
        }
        assert_eq!(of(&[]), BodyRange::Whole);
    }

    #[test]
    fn a_range_counts_only_of_what_the_client_has() {
        let with = |tag| of(&[(header::RANGE, "bytes=0-0"), (header::IF_RANGE, tag)]);
        assert_eq!(with("\"tag\""), BodyRange::Some(0..1));
        assert_eq!(with("\"old\""), BodyRange::Whole);
        assert_eq!(with("W/\"tag\""), BodyRange::Whole);
    }
}
