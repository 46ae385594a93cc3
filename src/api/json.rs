//! The strict JSON reader for bodies that callers send to the gateway itself.
//!
//! Owns the refusal of a member that is there twice, at whatever depth: readers differ in
//! which of the two counts, so the sender may mean the other one.

use std::collections::HashSet;
use std::fmt;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Problem;
use cloakroom_domain::http::media_type;

/// Whether the one content type that a request names is JSON.
pub(super) fn is_named(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let only = types.next().filter(|_| types.next().is_none());
    only.and_then(|value| value.to_str().ok()).is_some_and(media_type::is_json)
}

/// A value whose objects name each member once; 400 otherwise.
pub(super) fn read(octets: &[u8]) -> Result<Value, Problem> {
    let mut twice = None;
    let mut reader = serde_json::Deserializer::from_slice(octets);
    let looked = DuplicateCheck(&mut twice).deserialize(&mut reader);
    if let Some(name) = twice {
        let detail = format!("the member {name:?} is there twice: send it once");
        return Err(Problem::malformed_body(Some(&name), detail));
    }
    looked
        .and_then(|()| serde_json::from_slice(octets))
        .map_err(|error| Problem::malformed_body(None, format!("the body is no JSON: {error}")))
}

/// Passes over a value, and notes the first member that is there twice.
struct DuplicateCheck<'t>(&'t mut Option<String>);

impl<'de> DeserializeSeed<'de> for DuplicateCheck<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DuplicateCheck<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(DuplicateCheck(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(DuplicateCheck(&mut *self.0))?;
            if self.0.is_none() && names.contains(&name) {
                *self.0 = Some(name.chars().take(64).collect());
            }
            names.insert(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_there_twice_is_named() {
        for (text, name) in [
            (r#"{"a":1,"a":1}"#, "a"),
            (r#"{"a":{"b":null,"c":[],"b":2}}"#, "b"),
            (r#"[{"x":true},{"y":"","y":1.5}]"#, "y"),
            (r#"{"url":1,"\u0075rl":2}"#, "url"),
        ] {
            let (status, _, body) = read(text.as_bytes()).unwrap_err().into_parts();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status.as_u16(), body["field"].as_str()), (400, Some(name)), "{text}");
        }
    }

    #[test]
    fn what_is_there_once_is_read() {
        let text = r#"{"a":{"a":[1,-2,0.5,"x",null,true]},"b":{"a":{}}}"#;
        assert_eq!(read(text.as_bytes()).unwrap().to_string(), text);
        for wrong in ["", "{", "{}x", "{\"a\":}"] {
            assert_eq!(read(wrong.as_bytes()).unwrap_err().status(), 400, "{wrong}");
        }
    }
}
