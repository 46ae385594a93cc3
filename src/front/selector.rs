//! Looking a value up in a request.
//!
//! Owns how fields, queries, captures and JSON bodies are read. A value that is not
//! there, or is no scalar, is none. Pure.

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::config::Selector;
use crate::domain::http::pattern::Captures;

/// What a value can be looked up in.
#[derive(Clone, Copy)]
pub(super) struct Seen<'r> {
    pub(super) headers: &'r HeaderMap,
    pub(super) query: Option<&'r str>,
    pub(super) captures: &'r Captures,
    pub(super) body: &'r [u8],
}

impl Seen<'_> {
    /// The value at a place.
    pub(super) fn at(&self, place: &Selector) -> Option<String> {
        match place {
            Selector::Header(name) => self.field(name),
            Selector::Query(name) => form_urlencoded::parse(self.query?.as_bytes())
                .find(|(own, _)| own == name)
                .map(|(_, value)| value.into_owned())
                .filter(|value| !value.is_empty()),
            Selector::Pointer(pointer) => self.pointer(pointer),
            Selector::Path(name) => self.captures.get(name).map(str::to_owned),
        }
    }

    /// The first value of a field.
    pub(super) fn field(&self, name: &HeaderName) -> Option<String> {
        let value = self.headers.get(name)?;
        let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The scalar that a JSON pointer leads to in the body.
    pub(super) fn pointer(&self, pointer: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(self.body).ok()?;
        match body.pointer(pointer)? {
            Value::String(text) => (!text.is_empty()).then(|| text.clone()),
            scalar @ (Value::Number(_) | Value::Bool(_)) => Some(scalar.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn values_are_found_where_they_are_and_none_where_they_are_not() {
        let name = HeaderName::from_static("customer-id");
        let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(" 7 "))]);
        let body = br#"{"a":{"b":[1,"x"]},"n":null}"#;
        let (captures, query) = (Captures::default(), Some("c=%41&d="));
        let seen = Seen { headers: &headers, query, captures: &captures, body };
        let at = |place| seen.at(&place);
        let pointer = |text: &str| Selector::Pointer(text.to_owned());
        assert_eq!(at(Selector::Header(name)).as_deref(), Some("7"));
        assert_eq!(at(Selector::Query("c".to_owned())).as_deref(), Some("A"));
        assert_eq!(at(Selector::Query("d".to_owned())), None);
        assert_eq!(at(pointer("/a/b/0")).as_deref(), Some("1"));
        assert_eq!(at(pointer("/a/b/1")).as_deref(), Some("x"));
        assert_eq!(at(pointer("/a/b")), None);
        assert_eq!(at(pointer("/n")), None);
        assert_eq!(at(Selector::Path("x".to_owned())), None);
    }
}
