//! Selectors: the place of a key in a request (`header:…`, `query:…`, `pointer:…`, `path:…`).
//!
//! Owns the spelling. It must not know how a request is looked into.

use http::HeaderName;

use super::{
    raw_value::RawValue,
    setting::{Setting, header_name},
};

/// A place in a request that holds a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A header field.
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    /// A JSON pointer (RFC 6901) into the body; begins with `/`.
    Pointer(String),
    /// A `{name}` of the route's path.
    Path(String),
}

/// Where an idempotency key comes from when the client sends none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// A header field.
    Header(HeaderName),
    /// A JSON pointer (RFC 6901) into the body; begins with `/`.
    Pointer(String),
    /// The fingerprint of the request.
    Fingerprint,
}

impl Setting for Selector {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        match text.split_once(':') {
            Some(("header", name)) => header_name(name).map(Self::Header),
            Some(("query", name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            Some(("pointer", path)) => pointer(path).map(Self::Pointer),
            Some(("path", name)) if !name.is_empty() => Ok(Self::Path(name.to_owned())),
            _ => Err(format!(
                "`{text}` names no place in a request; write header:Customer-Id, query:customer, \
                 pointer:/customer/id or path:customer"
            )),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Header(name) => format!("header:{name}"),
            Self::Query(name) => format!("query:{name}"),
            Self::Pointer(path) => format!("pointer:{path}"),
            Self::Path(name) => format!("path:{name}"),
        }
    }
}

impl Setting for KeyRule {
    fn read(given: &RawValue) -> Result<Self, String> {
        let text = given.text()?;
        match text.split_once(':') {
            None if text == "fingerprint" => Ok(Self::Fingerprint),
            Some(("header", name)) => header_name(name).map(Self::Header),
            Some(("pointer", path)) => pointer(path).map(Self::Pointer),
            _ => Err(format!(
                "`{text}` gives no key; write header:Order-Number, pointer:/order/number or \
                 fingerprint"
            )),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Header(name) => format!("header:{name}"),
            Self::Pointer(path) => format!("pointer:{path}"),
            Self::Fingerprint => "fingerprint".to_owned(),
        }
    }
}

fn pointer(path: &str) -> Result<String, String> {
    let escaped = path.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if path.starts_with('/') && escaped {
        return Ok(path.to_owned());
    }
    Err(format!("`{path}` is not a JSON pointer; write one like /customer/id (`~` is ~0)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> RawValue {
        RawValue::Text(text.into())
    }

    #[test]
    fn places_are_read_as_they_are_shown() {
        for good in ["header:customer-id", "query:customer", "pointer:/a/b~1c", "path:customer"] {
            assert_eq!(Selector::read(&text(good)).unwrap().show(), good);
        }
        for good in ["header:order-number", "pointer:/a", "fingerprint"] {
            assert_eq!(KeyRule::read(&text(good)).unwrap().show(), good);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for bad in ["", "customer", "header:", "header:a b", "query:", "path:", "pointer:a"] {
            assert!(Selector::read(&text(bad)).is_err(), "{bad}");
        }
        for bad in ["", "query:a", "path:a", "pointer:", "pointer:/a~2", "fingerprint:x"] {
            assert!(KeyRule::read(&text(bad)).is_err(), "{bad}");
        }
    }
}
