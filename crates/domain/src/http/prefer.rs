//! The preferences of a client: the `Prefer` field (RFC 7240).
//!
//! Owns its grammar and the preferences that the gateway knows. Malformed members are skipped and never
//! an error; of several with one name the first counts (section 2). It must not know what a route
//! allows.

use std::collections::HashSet;
use std::time::Duration;

use ::http::header::{Entry, HeaderMap, HeaderName, HeaderValue};

use super::grammar::{lines, members, pair, split, whole_number};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The longest that an answer is held back for `Prefer: wait`: proxies in front end a silent
/// request after 50 s (`HAProxy` as Debian sets it up).
pub const LONGEST_WAIT: Duration = Duration::from_secs(45);

/// One preference: `name[=value]` and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// In lower case.
    pub name: String,
    /// Unquoted; an empty value counts as none.
    pub value: Option<String>,
    /// Names in lower case, values unquoted, empty ones counted as none.
    pub parameters: Vec<(String, Option<String>)>,
}

impl Preference {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.parameters.iter().find(|(own, _)| own == name)?;
        value.as_deref()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, ';');
        let (name, value) = pair(parts.next()?).map(without_empty)?;
        let parameters = parts
            .filter(|part| !part.is_empty())
            .map(|part| pair(part).map(without_empty))
            .collect::<Option<_>>()?;
        Some(Self { name, value, parameters })
    }
}

// RFC 7240 section 2: an empty value is the same as none.
fn without_empty((name, value): (String, Option<String>)) -> (String, Option<String>) {
    (name, value.filter(|value| !value.is_empty()))
}

/// The preferences of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences(Vec<Preference>);

impl Preferences {
    /// Those of all `Prefer` lines.
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut all, mut named) = (Vec::new(), HashSet::new());
        for line in lines(headers, "prefer") {
            for preference in members(&line).filter_map(Preference::parse) {
                // Hashed: a list can have as many names as a head has room for.
                if named.insert(preference.name.clone()) {
                    all.push(preference);
                }
            }
        }
        Self(all)
    }

    /// The preference with this name, given in lower case.
    pub fn get(&self, name: &str) -> Option<&Preference> {
        self.0.iter().find(|preference| preference.name == name)
    }

    /// `respond-async` (RFC 7240 section 4.1), which takes no value.
    pub fn respond_async(&self) -> bool {
        self.get("respond-async").is_some_and(|preference| preference.value.is_none())
    }

    /// `wait` (section 4.3) in whole seconds, no longer than [`LONGEST_WAIT`].
    pub fn wait(&self) -> Option<Duration> {
        let seconds = whole_number(self.get("wait")?.value.as_deref()?)?;
        Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
    }

    /// `return=minimal` (section 4.2).
    pub fn minimal(&self) -> bool {
        let value = self.get("return").and_then(|preference| preference.value.as_deref());
        value.is_some_and(|value| value.eq_ignore_ascii_case("minimal"))
    }
}

/// Takes the preferences that `is_met` names out of the `Prefer` lines: the gateway has met
/// them, and who stands behind it is not to meet them once more. All others keep their octets.
pub fn take_out(headers: &mut HeaderMap, is_met: impl Fn(&str) -> bool) {
    let kept: Vec<_> =
        headers.get_all(PREFER).iter().filter_map(|line| without(line, &is_met)).collect();
    if let Entry::Occupied(lines) = headers.entry(PREFER) {
        lines.remove_entry_mult();
    }
    for line in kept {
        headers.append(PREFER, line);
    }
}

/// A line without those; none where nothing is left of it.
fn without(line: &HeaderValue, is_met: &impl Fn(&str) -> bool) -> Option<HeaderValue> {
    // A character for each octet, so that what stays comes back as it was.
    let text: String = line.as_bytes().iter().copied().map(char::from).collect();
    let met = |member: &&str| {
        Preference::parse(member).is_some_and(|preference| is_met(&preference.name))
    };
    let left: Vec<_> = members(&text).filter(|member| !met(member)).collect();
    if left.len() == members(&text).count() {
        return Some(line.clone());
    }
    let octets: Vec<u8> = left.join(", ").chars().map(|octet| octet as u8).collect();
    HeaderValue::from_bytes(&octets).ok().filter(|left| !left.is_empty())
}

/// How a wait that was honoured is named in `Preference-Applied`.
pub fn applied_wait(wait: Duration) -> String {
    format!("wait={}", wait.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use proptest::prelude::*;

    fn of(values: &[&str]) -> Preferences {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_str(value).unwrap());
        }
        Preferences::of(&headers)
    }

    #[test]
    fn several_lines_and_members_are_one_list() {
        let all = of(&["respond-async, Wait=10", "return=MINIMAL"]);
        assert!(all.respond_async() && all.minimal());
        assert_eq!(all.wait(), Some(Duration::from_secs(10)));
    }

    #[test]
    fn the_first_of_a_name_counts() {
        assert_eq!(of(&["wait=3, wait=9"]).wait(), Some(Duration::from_secs(3)));
        assert_eq!(of(&["wait=soon", "wait=9"]).wait(), None);
        assert!(!of(&["return=representation, return=minimal"]).minimal());
    }

    #[test]
    fn a_malformed_member_is_skipped_and_spoils_no_other() {
        let all = of(&["wait=\"3, b", "=, wait = \"7\"; , respond-async; x=y, ()"]);
        assert_eq!(all.wait(), Some(Duration::from_secs(7)));
        assert!(all.respond_async());
    }

    #[test]
    fn a_wait_is_whole_seconds_and_capped() {
        assert_eq!(of(&["wait=46"]).wait(), Some(LONGEST_WAIT));
        assert_eq!(of(&["wait=99999999999999999999999"]).wait(), Some(LONGEST_WAIT));
        assert_eq!(of(&["wait=0"]).wait(), Some(Duration::ZERO));
        for bad in ["wait", "wait=-1", "wait=1.5", "wait=\"\"", "wait=1s"] {
            assert_eq!(of(&[bad]).wait(), None, "{bad}");
        }
    }

    #[test]
    fn respond_async_takes_no_value() {
        assert!(of(&["Respond-Async=\"\""]).respond_async());
        assert!(!of(&["respond-async=no"]).respond_async());
    }

    #[test]
    fn parameters_keep_commas_inside_quotes() {
        let all = of(&[r#"respond-async, callback; url="https://a.example/?x=1,2;3""#]);
        let callback = all.get("callback").unwrap();
        assert_eq!(callback.parameter("url"), Some("https://a.example/?x=1,2;3"));
        assert_eq!(callback.parameter("other"), None);
    }

    #[test]
    fn what_was_met_is_taken_out_and_all_else_keeps_its_octets() {
        let met = |name: &str| ["respond-async", "wait", "callback"].contains(&name);
        for (lines, left) in [
            (&["respond-async"][..], &[][..]),
            (&["Respond-Async, return=minimal"], &["return=minimal"]),
            (&["respond-async;x=1,wait = \"7\"", "handling=lenient"], &["handling=lenient"]),
            (&["wait=3, a;b=\"x, wait=9\" ,, wait=9"], &["a;b=\"x, wait=9\""]),
            (&[r#"respond-async, callback; url="https://a.example/?x=1,2""#], &[]),
            (
                &["return=representation ,handling=strict"],
                &["return=representation ,handling=strict"],
            ),
            (&["=, respond-async, wait=\"3"], &["=, wait=\"3"]),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PREFER, HeaderValue::from_str(line).unwrap());
            }
            take_out(&mut headers, met);
            let found: Vec<_> =
                headers.get_all(PREFER).iter().map(|line| line.to_str().unwrap()).collect();
            assert_eq!(found, left, "{lines:?}");
        }
        let odd = HeaderValue::from_bytes(b"a=\xff, respond-async, b=\"\xc3\xa9,\xe9\"").unwrap();
        let mut headers = HeaderMap::from_iter([(PREFER, odd)]);
        take_out(&mut headers, met);
        assert_eq!(headers[PREFER].as_bytes(), b"a=\xff, b=\"\xc3\xa9,\xe9\"");
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&octets) {
                let all = Preferences::of(&HeaderMap::from_iter([(::http::HeaderName::from_static("prefer"), value)]));
                prop_assert!(all.wait().is_none_or(|wait| wait <= LONGEST_WAIT));
            }
        }
    }
}
