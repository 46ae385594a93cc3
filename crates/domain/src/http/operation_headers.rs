//! The header fields that a client may add to a request: `Operation-*` and `Client-Reference`.
//!
//! Owns their syntax and bounds. The invariant: the values in [`OperationHeaders`] are within bounds
//! and never exceed the route's grants. Fields with the prefix that the contract does not know are
//! ignored. It must not know how the values are used.

use std::time::Duration;

use ::http::HeaderMap;

use super::grammar::{is_visible, members, trim, whole_number};
use super::http_date;
use crate::{OperationId, Timestamp};

/// The most tags of one operation.
pub const MOST_TAGS: usize = 16;
/// The longest tag, in characters.
pub const LONGEST_TAG: usize = 100;
/// The longest serial key, in characters.
pub const LONGEST_SERIAL_KEY: usize = 255;
/// The longest client reference, in characters.
pub const LONGEST_REFERENCE: usize = 256;
/// How far ahead an operation may be due.
pub const FURTHEST_DELAY: Duration = Duration::from_hours(365 * 24);

const TAGS: &str = "Operation-Tags";
const DELAY: &str = "Operation-Delay";
const NOT_BEFORE: &str = "Operation-Not-Before";
const TIMEOUT: &str = "Operation-Timeout";
const DEADLINE: &str = "Operation-Deadline";
const SERIAL_KEY: &str = "Operation-Serial-Key";
const PARENT: &str = "Operation-Parent";
const REFERENCE: &str = "Client-Reference";

/// What a request added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationHeaders {
    /// In their order, each once.
    pub tags: Vec<String>,
    /// When it may begin; `None` for at once, also when the asked-for instant has passed.
    pub not_before: Option<Timestamp>,
    /// The limit of one attempt, no longer than the route's.
    pub timeout: Option<Duration>,
    /// The limit of the whole, no longer than the route's.
    pub deadline: Option<Duration>,
    /// At most one operation at a time has this key.
    pub serial_key: Option<String>,
    /// The operation that gave rise to this one. Whose it is, is not known here.
    pub parent: Option<OperationId>,
    /// What the client calls it; empty counts as none.
    pub client_reference: Option<String>,
}

/// The longest times that a route grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderGrants {
    /// Of one attempt.
    pub timeout: Duration,
    /// Of the whole.
    pub deadline: Duration,
}

/// A field is refused (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
pub struct OperationHeaderProblem {
    /// The field, as it is written.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: OperationHeaderFault,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationHeaderFault {
    /// A single-valued field on several lines.
    #[error("is there more than once: send it on one line")]
    Repeated,
    /// Not a whole number above zero.
    #[error("must be a whole number of seconds, at least 1")]
    NotPositiveSeconds,
    /// Not a whole number.
    #[error("must be a whole number of seconds")]
    NotSeconds,
    /// Neither spelling of a date.
    #[error("must be a date, as in `2026-11-21T08:30:00Z` or `Sat, 21 Nov 2026 08:30:00 GMT`")]
    NotADate,
    /// Over [`FURTHEST_DELAY`] from now.
    #[error("is more than a year ahead: choose a nearer time")]
    TooFar,
    /// `Operation-Delay` beside `Operation-Not-Before`.
    #[error("says the same as Operation-Not-Before: send one of the two")]
    DelayAndDate,
    /// Over [`MOST_TAGS`].
    #[error("has more than 16 tags: send at most 16")]
    TooManyTags,
    /// A tag with other characters, or over [`LONGEST_TAG`].
    #[error(
        "must list tags of 1 to 100 visible ascii characters without quotes, as in `account:121, instance:532`"
    )]
    BadTag,
    /// Empty, with other characters, or over [`LONGEST_SERIAL_KEY`].
    #[error("must have 1 to 255 visible ascii characters")]
    BadSerialKey,
    /// Not an id.
    #[error("must be the id of an operation, as Operation-Id names it, or its ticket")]
    BadParent,
    /// With other characters, or over [`LONGEST_REFERENCE`].
    #[error("must have at most 256 characters of ascii text")]
    BadReference,
}

impl OperationHeaders {
    /// Reads the fields of a request. `granted` is what the route allows: larger values
    /// are cut down to it.
    pub fn parse(
        headers: &HeaderMap,
        now: Timestamp,
        granted: HeaderGrants,
    ) -> Result<Self, OperationHeaderProblem> {
        Ok(Self {
            tags: tags(headers)?,
            not_before: not_before(headers, now)?,
            timeout: limit(headers, TIMEOUT, granted.timeout)?,
            deadline: limit(headers, DEADLINE, granted.deadline)?,
            serial_key: serial_key(headers)?,
            parent: parent(headers)?,
            client_reference: client_reference(headers)?,
        })
    }
}

fn problem(field: &'static str, fault: OperationHeaderFault) -> OperationHeaderProblem {
    OperationHeaderProblem { field, fault }
}

/// The one line of a field, trimmed; `unreadable` if it is not ASCII text.
fn single<'a>(
    headers: &'a HeaderMap,
    field: &'static str,
    unreadable: OperationHeaderFault,
) -> Result<Option<&'a str>, OperationHeaderProblem> {
    let mut lines = headers.get_all(field).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(problem(field, OperationHeaderFault::Repeated));
    }
    line.to_str().map(|text| Some(trim(text))).map_err(|_| problem(field, unreadable))
}

fn tags(headers: &HeaderMap) -> Result<Vec<String>, OperationHeaderProblem> {
    let mut tags: Vec<String> = Vec::new();
    for line in headers.get_all(TAGS) {
        let line = line.to_str().map_err(|_| problem(TAGS, OperationHeaderFault::BadTag))?;
        for tag in members(line) {
            let plain = is_visible(tag) && !tag.contains(['"', '\\']);
            if !plain || tag.len() > LONGEST_TAG {
                return Err(problem(TAGS, OperationHeaderFault::BadTag));
            }
            if tags.iter().any(|known| known == tag) {
                continue;
            }
            // Counted at once: comparing each with all others would take the square of a head.
            if tags.len() == MOST_TAGS {
                return Err(problem(TAGS, OperationHeaderFault::TooManyTags));
            }
            tags.push(tag.to_owned());
        }
    }
    Ok(tags)
}

fn not_before(
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Option<Timestamp>, OperationHeaderProblem> {
    let delay = single(headers, DELAY, OperationHeaderFault::NotSeconds)?;
    let date = single(headers, NOT_BEFORE, OperationHeaderFault::NotADate)?;
    let (field, due) = match (delay, date) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(problem(DELAY, OperationHeaderFault::DelayAndDate)),
        (Some(seconds), None) => {
            let seconds =
                whole_number(seconds).ok_or(problem(DELAY, OperationHeaderFault::NotSeconds))?;
            (DELAY, now + Duration::from_secs(seconds))
        }
        (None, Some(text)) => {
            let due =
                date_of(text, now).ok_or(problem(NOT_BEFORE, OperationHeaderFault::NotADate))?;
            (NOT_BEFORE, due)
        }
    };
    if due.since(now) > FURTHEST_DELAY {
        return Err(problem(field, OperationHeaderFault::TooFar));
    }
    Ok((due > now).then_some(due))
}

fn date_of(text: &str, now: Timestamp) -> Option<Timestamp> {
    http_date::parse(text, now).or_else(|| {
        // RFC 3339 needs an offset and knows no `[annotations]`, which jiff would take.
        let instant: jiff::Timestamp = text.parse().ok().filter(|_| !text.contains('['))?;
        Some(Timestamp::from_micros(instant.as_microsecond()))
    })
}

fn limit(
    headers: &HeaderMap,
    field: &'static str,
    granted: Duration,
) -> Result<Option<Duration>, OperationHeaderProblem> {
    let Some(text) = single(headers, field, OperationHeaderFault::NotPositiveSeconds)? else {
        return Ok(None);
    };
    match whole_number(text) {
        Some(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds).min(granted))),
        _ => Err(problem(field, OperationHeaderFault::NotPositiveSeconds)),
    }
}

fn serial_key(headers: &HeaderMap) -> Result<Option<String>, OperationHeaderProblem> {
    match single(headers, SERIAL_KEY, OperationHeaderFault::BadSerialKey)? {
        Some(key) if !is_visible(key) || !(1..=LONGEST_SERIAL_KEY).contains(&key.len()) => {
            Err(problem(SERIAL_KEY, OperationHeaderFault::BadSerialKey))
        }
        key => Ok(key.map(str::to_owned)),
    }
}

fn parent(headers: &HeaderMap) -> Result<Option<OperationId>, OperationHeaderProblem> {
    let Some(text) = single(headers, PARENT, OperationHeaderFault::BadParent)? else {
        return Ok(None);
    };
    parent_named(text).map(Some).ok_or(problem(PARENT, OperationHeaderFault::BadParent))
}

/// The id in the text of an id or a ticket. The ticket's tail is not checked: naming a
/// parent gives no access to it.
pub fn parent_named(text: &str) -> Option<OperationId> {
    let (id, tail) = text.split_at_checked(36)?;
    let hex = |octet: u8| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
    let is_ticket =
        || tail.strip_prefix('-').is_some_and(|tail| tail.len() == 32 && tail.bytes().all(hex));
    // A UUID means the same in capitals (RFC 9562 section 4).
    let id = id.to_ascii_lowercase();
    if tail.is_empty() || is_ticket() { id.parse().ok() } else { None }
}

fn client_reference(headers: &HeaderMap) -> Result<Option<String>, OperationHeaderProblem> {
    match single(headers, REFERENCE, OperationHeaderFault::BadReference)? {
        Some(text) if !is_reference(text) => {
            Err(problem(REFERENCE, OperationHeaderFault::BadReference))
        }
        text => Ok(text.filter(|text| !text.is_empty()).map(str::to_owned)),
    }
}

/// Whether a text can be a client's reference: ASCII of at most [`LONGEST_REFERENCE`]
/// characters without controls.
pub fn is_reference(text: &str) -> bool {
    let plain = |octet: u8| octet == b' ' || octet.is_ascii_graphic();
    text.len() <= LONGEST_REFERENCE && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    // Tue, 14 Nov 2023 22:13:20 GMT
    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
    const GRANTED: HeaderGrants =
        HeaderGrants { timeout: Duration::from_mins(1), deadline: Duration::from_hours(1) };
    const ID: &str = "0192f7c0-5a3e-7c21-9b00-3f1c5d7e9a10";

    fn parse(fields: &[(&str, &str)]) -> Result<OperationHeaders, OperationHeaderProblem> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        OperationHeaders::parse(&headers, NOW, GRANTED)
    }

    fn one(field: &str, value: &str) -> OperationHeaders {
        parse(&[(field, value)]).unwrap()
    }

    fn fault(field: &'static str, value: &str) -> OperationHeaderFault {
        let found = parse(&[(field, value)]).unwrap_err();
        assert_eq!(found.field, field, "the problem names the field");
        assert!(found.to_string().starts_with(field));
        found.fault
    }

    #[test]
    fn nothing_added_and_unknown_fields_are_nothing() {
        assert_eq!(parse(&[]), Ok(OperationHeaders::default()));
        assert_eq!(parse(&[("Operation-Colour", "\"red")]), Ok(OperationHeaders::default()));
    }

    #[test]
    fn tags_are_a_list_over_all_lines_each_once() {
        let fields = [(TAGS, "account:121, , instance:532"), (TAGS, "urgent,account:121")];
        assert_eq!(parse(&fields).unwrap().tags, ["account:121", "instance:532", "urgent"]);
    }

    #[test]
    fn tags_have_bounds() {
        let many =
            |count: usize| (0..count).map(|n| format!("t:{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(one(TAGS, &many(16)).tags.len(), 16);
        assert_eq!(fault(TAGS, &many(17)), OperationHeaderFault::TooManyTags);
        assert_eq!(one(TAGS, &"t".repeat(100)).tags.len(), 1);
        for bad in [&"t".repeat(101), "a b", "\"a\"", "é"] {
            assert_eq!(fault(TAGS, bad), OperationHeaderFault::BadTag, "{bad}");
        }
    }

    #[test]
    fn a_delay_and_a_date_say_when_it_may_begin() {
        let soon = Some(NOW + Duration::from_secs(30));
        assert_eq!(one(DELAY, "30").not_before, soon);
        assert_eq!(one(NOT_BEFORE, "Tue, 14 Nov 2023 22:13:50 GMT").not_before, soon);
        assert_eq!(one(NOT_BEFORE, "2023-11-14T22:13:50Z").not_before, soon);
        assert_eq!(one(NOT_BEFORE, "2023-11-14T23:13:50.0+01:00").not_before, soon);
    }

    #[test]
    fn a_time_that_has_come_is_at_once() {
        assert_eq!(one(DELAY, "0").not_before, None);
        assert_eq!(one(NOT_BEFORE, "2001-01-01T00:00:00Z").not_before, None);
    }

    #[test]
    fn what_is_no_time_or_a_year_ahead_is_refused() {
        assert_eq!(one(DELAY, "31536000").not_before, Some(NOW + FURTHEST_DELAY));
        for far in ["31536001", "99999999999999999999999"] {
            assert_eq!(fault(DELAY, far), OperationHeaderFault::TooFar);
        }
        assert_eq!(fault(NOT_BEFORE, "2025-01-01T00:00:00Z"), OperationHeaderFault::TooFar);
        for bad in ["-1", "1.5", "", "soon"] {
            assert_eq!(fault(DELAY, bad), OperationHeaderFault::NotSeconds, "{bad}");
        }
        for bad in
            ["", "tomorrow", "2023-11-14T22:13:50", "2023-11-14", "2023-11-14T22:13:50Z[UTC]"]
        {
            assert_eq!(fault(NOT_BEFORE, bad), OperationHeaderFault::NotADate, "{bad}");
        }
        let both = parse(&[(DELAY, "1"), (NOT_BEFORE, "2023-11-14T22:13:50Z")]).unwrap_err();
        assert_eq!((both.field, both.fault), (DELAY, OperationHeaderFault::DelayAndDate));
    }

    #[test]
    fn limits_lower_what_the_route_grants_and_never_raise_it() {
        assert_eq!(one(TIMEOUT, "5").timeout, Some(Duration::from_secs(5)));
        assert_eq!(one(TIMEOUT, "61").timeout, Some(GRANTED.timeout));
        assert_eq!(one(DEADLINE, "99999999999999999999999").deadline, Some(GRANTED.deadline));
        for field in [TIMEOUT, DEADLINE] {
            for bad in ["-1", "0", "", "1s", "1.5", "é", "5, 6"] {
                assert_eq!(
                    fault(field, bad),
                    OperationHeaderFault::NotPositiveSeconds,
                    "{field}: {bad}"
                );
            }
        }
    }

    #[test]
    fn a_serial_key_has_1_to_255_visible_characters() {
        assert_eq!(one(SERIAL_KEY, "customer:7").serial_key.as_deref(), Some("customer:7"));
        assert!(one(SERIAL_KEY, &"k".repeat(255)).serial_key.is_some());
        for bad in ["", "a b", "é", &"k".repeat(256)] {
            assert_eq!(fault(SERIAL_KEY, bad), OperationHeaderFault::BadSerialKey, "{bad}");
        }
    }

    #[test]
    fn a_parent_is_named_by_its_id_or_its_ticket() {
        let id = ID.parse().unwrap();
        assert_eq!(one(PARENT, ID).parent, Some(id));
        assert_eq!(one(PARENT, &ID.to_uppercase()).parent, Some(id));
        let ticket = format!("{ID}-{}", "0f".repeat(16));
        assert_eq!(one(PARENT, &ticket).parent, Some(id));
        for bad in ["", "7", &ticket[..68], &ticket.replace('f', "g")] {
            assert_eq!(fault(PARENT, bad), OperationHeaderFault::BadParent, "{bad}");
        }
    }

    #[test]
    fn a_client_reference_is_ascii_text_of_256_characters() {
        assert_eq!(one(REFERENCE, "order 7").client_reference.as_deref(), Some("order 7"));
        assert_eq!(one(REFERENCE, " ").client_reference, None);
        assert!(one(REFERENCE, &"r".repeat(256)).client_reference.is_some());
        for bad in ["é", "a\tb", &"r".repeat(257)] {
            assert_eq!(fault(REFERENCE, bad), OperationHeaderFault::BadReference, "{bad}");
        }
    }

    #[test]
    fn a_field_with_one_value_stands_on_one_line() {
        for field in [DELAY, NOT_BEFORE, TIMEOUT, DEADLINE, SERIAL_KEY, PARENT, REFERENCE] {
            let found = parse(&[(field, "1"), (field, "1")]).unwrap_err();
            assert_eq!((found.field, found.fault), (field, OperationHeaderFault::Repeated));
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            field in prop::sample::select(vec![TAGS, DELAY, NOT_BEFORE, TIMEOUT, DEADLINE, SERIAL_KEY, PARENT, REFERENCE]),
            octets in prop::collection::vec(any::<u8>(), 0..60),
            text in "\\PC{0,80}",
        ) {
            for octets in [octets, text.into_bytes()] {
                if let Ok(value) = HeaderValue::from_bytes(&octets) {
                    let name = HeaderName::from_bytes(field.as_bytes()).unwrap();
                    let headers = HeaderMap::from_iter([(name, value)]);
                    if let Ok(read) = OperationHeaders::parse(&headers, NOW, GRANTED) {
                        prop_assert!(read.timeout.is_none_or(|timeout| timeout <= GRANTED.timeout));
                        prop_assert!(read.not_before.is_none_or(|due| due > NOW));
                    }
                }
            }
        }
    }
}
