//! The scalar that a JSON pointer (RFC 6901) leads to in a text.
//!
//! Owns the walk. Its invariants: it takes time in proportion to the text and no memory for
//! what is not on the path, because the text is a client's; and a value is compared as it was
//! written, so a number keeps its digits and a string is what it stands for. It must not know
//! what the value is for.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The longest scalar that is read, in octets as it is written.
pub const LONGEST: usize = 64 * 1024;

/// Why there may be a value that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The text is not JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// The pointer leads to an array or an object.
    #[error("the value is an array or an object")]
    NotScalar,
    /// The value is longer than [`LONGEST`].
    #[error("the value is longer than 64 KiB")]
    TooLong,
}

/// Looks up the scalar at `pointer`: none where nothing is there, or null, or an empty
/// string. Of members with one name the last counts.
pub fn scalar(text: &[u8], pointer: &str) -> Result<Option<String>, Unreadable> {
    let steps: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let found = Walk(&steps).deserialize(&mut reader);
    let found = found.and_then(|found| reader.end().map(|()| found));
    match found.map_err(|_| Unreadable::NotJson)?.map(RawValue::get) {
        None => Ok(None),
        Some(raw) if raw.starts_with(['[', '{']) => Err(Unreadable::NotScalar),
        Some(raw) if raw.len() > LONGEST => Err(Unreadable::TooLong),
        Some(raw) if raw.starts_with('"') => {
            let text: String = serde_json::from_str(raw).map_err(|_| Unreadable::NotJson)?;
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        Some(raw) => Ok((raw != "null").then(|| raw.to_owned())),
    }
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// The rest of the way; at its end the value as it is written.
struct Walk<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        match self.0.split_first() {
            None => serde::Deserialize::deserialize(reader).map(Some),
            Some((step, rest)) => reader.deserialize_any(Inside { step, rest }),
        }
    }
}

/// An array or an object on the way.
struct Inside<'p> {
    step: &'p str,
    rest: &'p [String],
}

impl Inside<'_> {
    /// An index of an array: digits without a zero before them.
    fn index(&self) -> Option<usize> {
        let plain = self.step == "0" || !self.step.starts_with(['0', '+']);
        self.step.parse().ok().filter(|_| plain)
    }
}

impl<'de> Visitor<'de> for Inside<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_named) = members.next_key_seed(Name(self.step))? {
            if is_named {
                found = members.next_value_seed(Walk(self.rest))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        if let Some(index) = self.index() {
            for _ in 0..index {
                if elements.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            let found = elements.next_element_seed(Walk(self.rest))?;
            while elements.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(found.flatten());
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    // Nothing is inside a scalar.

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member has this name.
struct Name<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        // As octets: half of a surrogate pair in another member's name is no fault of this one.
        reader.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<bool, E> {
        Ok(name == self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn at(text: &str, pointer: &str) -> Option<String> {
        scalar(text.as_bytes(), pointer).unwrap()
    }

    #[test]
    fn a_scalar_is_found_where_the_pointer_leads() {
        let text = r#" {"a":{"b":[1,"x",{"c/d":true,"e~f":"g"}]},"":"empty","n":null,"z":""} "#;
        for (pointer, found) in [
            ("/a/b/0", Some("1")),
            ("/a/b/1", Some("x")),
            ("/a/b/2/c~1d", Some("true")),
            ("/a/b/2/e~0f", Some("g")),
            ("/", Some("empty")),
            ("/n", None),
            ("/z", None),
            ("/a/b/3", None),
            ("/a/b/00", None),
            ("/a/b/+0", None),
            ("/a/b/-", None),
            ("/a/b/0/c", None),
            ("/a/b/1/c", None),
            ("/n/a", None),
            ("/missing/a", None),
        ] {
            assert_eq!(at(text, pointer).as_deref(), found, "{pointer}");
        }
        assert_eq!(at("\"whole\"", "").as_deref(), Some("whole"));
    }

    #[test]
    fn a_number_keeps_its_digits_and_a_string_is_what_it_stands_for() {
        for (written, found) in [
            ("2024.10", "2024.10"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("9007199254740993.0", "9007199254740993.0"),
            ("1e400", "1e400"),
            ("-0", "-0"),
            ("1E+2", "1E+2"),
            (r#""\u0041\n\/""#, "A\n/"),
            (r#""\ud83d\ude00""#, "😀"),
            ("false", "false"),
        ] {
            assert_eq!(at(&format!("{{\"k\": {written} }}"), "/k").as_deref(), Some(found));
        }
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        assert_eq!(at(r#"{"a":1,"a":2}"#, "/a").as_deref(), Some("2"));
        assert_eq!(at(r#"{"a":1,"\u0061":3}"#, "/a").as_deref(), Some("3"));
        assert_eq!(at(r#"{"a":{"b":1},"a":{}}"#, "/a/b"), None);
        assert_eq!(at(r#"{"a":{"b":1},"a":7}"#, "/a/b"), None);
    }

    #[test]
    fn half_a_surrogate_pair_beside_the_path_is_walked_past() {
        for text in [
            r#"{"\ud800":1,"k":"x"}"#,
            r#"{"k":"x","\udc00a":{"\ud800":[]}}"#,
            r#"{"a":"\ud800","k":"x"}"#,
            r#"{"\ud800k":"y","k":"x"}"#,
        ] {
            assert_eq!(at(text, "/k").as_deref(), Some("x"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_not_there() {
        let read = |text: &[u8]| scalar(text, "/k");
        for text in [
            &b"{"[..],
            b"{\"k\":1} x",
            b"{\"k\":01}",
            b"{\"k\":1,}",
            b"k=1",
            b"\xef\xbb\xbf{\"k\":1}",
            b"{\"k\":\"\xff\"}",
            b"{\"k\":\"\\ud800\"}",
            b"",
        ] {
            assert_eq!(read(text), Err(Unreadable::NotJson), "{}", text.escape_ascii());
        }
        assert_eq!(read(b"{\"k\":[1]}"), Err(Unreadable::NotScalar));
        assert_eq!(read(b"{\"k\": {\"a\":1}}"), Err(Unreadable::NotScalar));
        let long = |length: usize| format!("{{\"k\":\"{}\"}}", "x".repeat(length - 2));
        assert_eq!(read(long(LONGEST + 1).as_bytes()), Err(Unreadable::TooLong));
        assert!(read(long(LONGEST).as_bytes()).unwrap().is_some());
    }

    #[test]
    fn nesting_beside_the_path_is_walked_past_however_deep() {
        let deep = format!("{{\"a\":{}{},\"k\":1}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(at(&deep, "/k").as_deref(), Some("1"));
        assert_eq!(at(&deep, "/a/0/0/0/0/0/0/0/k"), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\~/é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ab0~/]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_a_whole_tree_has_there(tree in json(), pointer in "(/([ab01]|~0|~1){0,2}){0,3}") {
            let found = scalar(tree.to_string().as_bytes(), &pointer);
            let expected = match tree.pointer(&pointer) {
                Some(Value::Array(_) | Value::Object(_)) => Err(Unreadable::NotScalar),
                Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
                Some(Value::Null) | None => Ok(None),
                Some(scalar) => Ok(Some(scalar.to_string())),
            };
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..60), pointer in ".{0,12}") {
            let _ = scalar(&octets, &pointer);
        }
    }
}
