//! The preconditions of a request: `If-Match` and `If-None-Match` (RFC 9110 section 13.1).
//!
//! Owns the reading of entity tags and their comparison. A condition that cannot be read guards
//! nothing, so a request that would change something is refused for it; an unreadable
//! `If-None-Match` only brings a reader the whole answer. Conditions about dates are not read,
//! because no resource of the gateway's has a date (section 13.1.4). It must not know which resource
//! has which tag.

use ::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use ::http::{HeaderMap, HeaderValue};

/// The conditions on entity tags that a request names.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    matches: EntityTags,
    matches_none: EntityTags,
}

/// The value of one of the two fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum EntityTags {
    /// There is no such field.
    #[default]
    Absent,
    /// `*`
    Any,
    /// One or several.
    Listed(Vec<EntityTag>),
    /// No list of tags.
    Unreadable,
}

/// An entity tag (section 8.8.3), with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct EntityTag {
    weak: bool,
    opaque: Vec<u8>,
}

/// Why a request is not carried out; the field as its definition spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreconditionError {
    /// The field's value is no list of entity tags.
    #[error("{0} is one or more ETags in quotes, separated by commas, or * alone")]
    Unreadable(&'static str),
    /// The condition is false.
    #[error("{0} does not hold")]
    False(&'static str),
}

impl Preconditions {
    /// The conditions in the head of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            matches: EntityTags::of(headers, &IF_MATCH),
            matches_none: EntityTags::of(headers, &IF_NONE_MATCH),
        }
    }

    /// Whether a resource may be read whose strong tag this is; none where it has no tag
    /// (section 13.1.1).
    pub fn allow_reading(&self, etag: Option<&str>) -> Result<(), PreconditionError> {
        match &self.matches {
            EntityTags::Absent | EntityTags::Any => Ok(()),
            EntityTags::Unreadable => Err(PreconditionError::Unreadable("If-Match")),
            EntityTags::Listed(tags) => {
                let is_same = |tag: &EntityTag| !tag.weak && etag.is_some_and(|own| tag.is(own));
                let found = tags.iter().any(is_same);
                found.then_some(()).ok_or(PreconditionError::False("If-Match"))
            }
        }
    }

    /// Whether a resource may be changed whose strong tag this is (section 13.2.2).
    pub fn allow_change(&self, etag: &str) -> Result<(), PreconditionError> {
        self.allow_reading(Some(etag))?;
        match &self.matches_none {
            EntityTags::Unreadable => Err(PreconditionError::Unreadable("If-None-Match")),
            named if named.have(etag) => Err(PreconditionError::False("If-None-Match")),
            _ => Ok(()),
        }
    }

    /// Whether the client has the representation with this tag (section 13.1.2).
    pub fn has(&self, etag: &str) -> bool {
        self.matches_none.have(etag)
    }

    /// Whether the request is about one state of the resource and no later one.
    pub const fn names_state(&self) -> bool {
        matches!(self.matches, EntityTags::Listed(_))
    }
}

impl EntityTags {
    /// Reads all lines of a field as one list.
    fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        if !headers.contains_key(name) {
            return Self::Absent;
        }
        let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let (mut tags, mut stars) = (Vec::new(), 0);
        for line in lines {
            let mut rest = skipped(line);
            while !rest.is_empty() {
                rest = match rest {
                    [b'*', after @ ..] => {
                        stars += 1;
                        after
                    }
                    _ => match EntityTag::first(rest) {
                        Some((tag, after)) => {
                            tags.push(tag);
                            after
                        }
                        None => return Self::Unreadable,
                    },
                };
                let behind = rest.trim_ascii_start();
                if !matches!(behind.first(), None | Some(b',')) {
                    return Self::Unreadable;
                }
                rest = skipped(behind);
            }
        }
        match (stars, tags.is_empty()) {
            (1, true) => Self::Any,
            (0, false) => Self::Listed(tags),
            _ => Self::Unreadable,
        }
    }

    /// Whether a tag is among these, weak or strong.
    fn have(&self, etag: &str) -> bool {
        match self {
            Self::Absent | Self::Unreadable => false,
            Self::Any => true,
            Self::Listed(tags) => tags.iter().any(|tag| tag.is(etag)),
        }
    }
}

/// The text behind blanks and empty members of a list (section 5.6.1.2).
fn skipped(text: &[u8]) -> &[u8] {
    let stands_for_nothing = |octet: &u8| matches!(octet, b' ' | b'\t' | b',');
    let first = text.iter().position(|octet| !stands_for_nothing(octet));
    first.map_or(&[], |first| &text[first..])
}

impl EntityTag {
    /// The tag at the beginning of a text, and the text behind it.
    fn first(text: &[u8]) -> Option<(Self, &[u8])> {
        let quoted = text.strip_prefix(b"W/").unwrap_or(text);
        let inside = quoted.strip_prefix(b"\"")?;
        let length = inside.iter().position(|octet| *octet == b'"')?;
        let is_etagc = |octet: &u8| matches!(octet, 0x21 | 0x23..=0x7e | 0x80..);
        let (tag, after) = quoted.split_at(length + 2);
        inside[..length].iter().all(is_etagc).then(|| {
            let weak = quoted.len() < text.len();
            (Self { weak, opaque: tag.to_vec() }, after)
        })
    }

    /// Whether the quoted text is the same, by the weak comparison.
    fn is(&self, etag: &str) -> bool {
        self.opaque == etag.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "\"7\"";

    fn with(name: &HeaderName, lines: &[&[u8]]) -> Preconditions {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        Preconditions::of(&headers)
    }

    fn if_match(lines: &[&[u8]]) -> Result<(), PreconditionError> {
        with(&IF_MATCH, lines).allow_change(OWN)
    }

    #[test]
    fn if_match_holds_where_a_strong_tag_or_a_star_names_the_resource() {
        let holds: [&[&[u8]]; 10] = [
            &[],
            &[b"\"7\""],
            &[b"*"],
            &[b" * "],
            &[b"\"8\", \"7\""],
            &[b"\"8\",\"7\""],
            &[b", ,\"7\" ,\t,"],
            &[b"\"8\"", b"\"7\""],
            &[b"", b"\"7\""],
            &[b"\"a,b\", W/\"\", \"\xff\", \"7\""],
        ];
        for lines in holds {
            assert_eq!(if_match(lines), Ok(()), "{lines:?}");
        }
    }

    #[test]
    fn if_match_fails_where_no_strong_tag_names_the_resource() {
        let fails: [&[&[u8]]; 7] = [
            &[b"\"8\""],
            &[b"W/\"7\""],
            &[b"\"\""],
            &[b"\"8\"", b"\"9\""],
            // Neither a star nor a tag in a tag counts.
            &[b"\"a,*,b\""],
            &[b"\"*\""],
            &[b"\",7,\""],
        ];
        for lines in fails {
            assert_eq!(if_match(lines), Err(PreconditionError::False("If-Match")), "{lines:?}");
        }
        let tagless = with(&IF_MATCH, &[b"\"7\""]).allow_reading(None);
        assert_eq!(tagless, Err(PreconditionError::False("If-Match")));
        assert_eq!(with(&IF_MATCH, &[b"*"]).allow_reading(None), Ok(()));
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        let broken: [&[&[u8]]; 18] = [
            &[b""],
            &[b","],
            &[b"7"],
            &[b"\"7"],
            &[b"7\""],
            &[b"\"7\"\"8\""],
            &[b"\"7\" \"8\""],
            &[b"\"7\", *"],
            &[b"*, *"],
            &[b"*", b"\"7\""],
            &[b"**"],
            &[b"w/\"7\""],
            &[b"W/ \"7\""],
            &[b"W/7"],
            &[b"W/"],
            &[b"\"7 8\""],
            &[b"'7'"],
            &[b"\"7\"; a=b"],
        ];
        for lines in broken {
            let refused = PreconditionError::Unreadable("If-Match");
            assert_eq!(if_match(lines), Err(refused), "{lines:?}");
            let none = with(&IF_NONE_MATCH, lines);
            let refused = PreconditionError::Unreadable("If-None-Match");
            assert_eq!(none.allow_change(OWN), Err(refused), "{lines:?}");
            assert_eq!((none.allow_reading(Some(OWN)), none.has(OWN)), (Ok(()), false));
        }
    }

    #[test]
    fn if_none_match_compares_weakly_and_guards_changes() {
        let cases: [(&[&[u8]], bool); 8] = [
            (&[], false),
            (&[b"\"7\""], true),
            (&[b"W/\"7\""], true),
            (&[b"\"8\", \"7\""], true),
            (&[b"\"8\"", b"\"7\""], true),
            (&[b"*"], true),
            (&[b"\"8\""], false),
            (&[b"\"a,*,b\", \"c,\""], false),
        ];
        for (lines, has) in cases {
            let read = with(&IF_NONE_MATCH, lines);
            assert_eq!(read.has(OWN), has, "{lines:?}");
            let refused = PreconditionError::False("If-None-Match");
            let allowed = if has { Err(refused) } else { Ok(()) };
            assert_eq!(read.allow_change(OWN), allowed, "{lines:?}");
            assert!(!read.names_state());
        }
        assert!(with(&IF_MATCH, &[b"\"8\""]).names_state());
    }
}
