//! Selected values: what a request has at the places that its route names.
//!
//! Owns how fields, queries, captures and JSON bodies are read. Its invariant: two values
//! are the same only if they were written with the same octets, because operations are told
//! apart by them. Pure.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;

use crate::config::Selector;
use cloakroom_domain::http::pattern::Captures;
use cloakroom_domain::pointer::{Scalars, UnreadableValue};

/// The parts of a request in which values are looked up.
#[derive(Clone, Copy)]
pub(super) struct RequestView<'r> {
    pub(super) headers: &'r HeaderMap,
    pub(super) query: Option<&'r str>,
    pub(super) captures: &'r Captures,
    /// The values that were found in the body.
    pub(super) scalars: &'r Scalars<'r>,
}

/// A value, none where nothing is there, or why it cannot be read.
pub(super) type SelectedValue = Result<Option<Vec<u8>>, UnreadableValue>;

impl RequestView<'_> {
    /// The value at a place.
    pub(super) fn at(&self, place: &Selector) -> SelectedValue {
        match place {
            Selector::Header(name) => Ok(self.field(name)),
            Selector::Query(name) => Ok(self.parameter(name)),
            Selector::Pointer(pointer) => self.pointer(pointer),
            Selector::Path(name) => Ok(self.captures.get(name).map(Into::into)),
        }
    }

    /// The value of a field: several lines of it are one list (RFC 9110 section 5.3).
    pub(super) fn field(&self, name: &HeaderName) -> Option<Vec<u8>> {
        let lines = self.headers.get_all(name).iter();
        let lines: Vec<&[u8]> = lines
            .map(|line| line.as_bytes().trim_ascii())
            .filter(|line| !line.is_empty())
            .collect();
        (!lines.is_empty()).then(|| lines.join(&b", "[..]))
    }

    /// The first value of a parameter of the query, decoded to octets: as text, all that is
    /// no UTF-8 would be the same.
    fn parameter(&self, name: &str) -> Option<Vec<u8>> {
        let pairs = self.query?.split('&');
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.find(|(own, _)| decoded(own) == name.as_bytes())?;
        let value = decoded(value);
        (!value.is_empty()).then_some(value)
    }

    /// The scalar that a JSON pointer leads to in the body.
    pub(super) fn pointer(&self, pointer: &str) -> SelectedValue {
        Ok(self.scalars.at(pointer)?.map(String::into_bytes))
    }
}

/// The octets that a part of a form stands for.
fn decoded(part: &str) -> Vec<u8> {
    let blanks: Cow<'_, str> =
        if part.contains('+') { part.replace('+', " ").into() } else { part.into() };
    percent_decode(blanks.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use cloakroom_domain::pointer::Pointers;

    #[test]
    fn values_are_found_where_they_are_and_none_where_they_are_not() {
        let name = HeaderName::from_static("customer-id");
        let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(" 7 "))]);
        let body = br#"{"a":{"b":[1,"x"]},"n":null}"#;
        let pointers = Pointers::new(["/a/b/0", "/a/b/1", "/a/b", "/n"]);
        let mut reading = pointers.reading();
        reading.feed(body);
        let scalars = reading.end();
        let (captures, query) = (Captures::default(), Some("c=%41&d="));
        let seen = RequestView { headers: &headers, query, captures: &captures, scalars: &scalars };
        let at = |place| {
            let found = seen.at(&place).unwrap();
            found.map(|octets| String::from_utf8(octets).unwrap())
        };
        let pointer = |text: &str| Selector::Pointer(text.to_owned());
        assert_eq!(at(Selector::Header(name)).as_deref(), Some("7"));
        assert_eq!(at(Selector::Query("c".to_owned())).as_deref(), Some("A"));
        assert_eq!(at(Selector::Query("d".to_owned())), None);
        assert_eq!(at(pointer("/a/b/0")).as_deref(), Some("1"));
        assert_eq!(at(pointer("/a/b/1")).as_deref(), Some("x"));
        assert_eq!(seen.at(&pointer("/a/b")), Err(UnreadableValue::NotScalar));
        assert_eq!(at(pointer("/n")), None);
        assert_eq!(at(Selector::Path("x".to_owned())), None);
    }

    #[test]
    fn values_that_are_no_text_stay_apart() {
        let name = HeaderName::from_static("customer-id");
        let captures = Captures::default();
        let of = |octets: &[u8], query: &str| {
            let value = HeaderValue::from_bytes(octets).unwrap();
            let headers = HeaderMap::from_iter([(name.clone(), value)]);
            let pointers = Pointers::new([]);
            let scalars = Scalars::none(&pointers);
            let query = Some(query);
            let seen =
                RequestView { headers: &headers, query, captures: &captures, scalars: &scalars };
            (seen.field(&name), seen.at(&Selector::Query("c".to_owned())).unwrap())
        };
        let (one, other) = (of(b"\xe9", "x=1&c=%E9+a"), of(b"\xe8", "%63=%E8+a"));
        assert_eq!(one, (Some(vec![0xe9]), Some(b"\xe9 a".to_vec())));
        assert_eq!(other, (Some(vec![0xe8]), Some(b"\xe8 a".to_vec())));
    }

    #[test]
    fn a_field_of_several_lines_is_not_the_same_as_its_first_line() {
        let name = HeaderName::from_static("customer-id");
        let captures = Captures::default();
        let of = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line)));
            let mut headers = HeaderMap::new();
            for (name, line) in lines {
                headers.append(name, line);
            }
            let pointers = Pointers::new([]);
            let scalars = Scalars::none(&pointers);
            RequestView { headers: &headers, query: None, captures: &captures, scalars: &scalars }
                .field(&name)
        };
        assert_eq!(of(&["a", " ", "b"]), Some(b"a, b".to_vec()));
        assert_ne!(of(&["a"]), of(&["a", "b"]));
        assert_eq!(of(&["", " "]), None);
    }
}
