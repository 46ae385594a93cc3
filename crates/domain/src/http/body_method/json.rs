//! The method override among the members of a JSON object.
//!
//! Owns which members count. Its invariant: each of several members with one name counts, because some
//! parsers take the first and others the last.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::super::request_override::method_parameter;
use super::{BodyMethod, holds, mentions};

/// What some servers leave out before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first octet of a body that is no blank.
pub(super) fn first(body: &[u8]) -> Option<u8> {
    plain(body).first().copied()
}

fn plain(body: &[u8]) -> &[u8] {
    let blank = body.trim_ascii_start();
    blank.strip_prefix(BYTE_ORDER_MARK).unwrap_or(blank).trim_ascii_start()
}

/// The methods that the members of an object name.
pub(super) fn named(body: &[u8]) -> BodyMethod {
    match serde_json::from_slice::<MethodMembers>(plain(body)) {
        Ok(MethodMembers(found)) => BodyMethod::these(found),
        // A reader that is less strict could find a name that is written with escapes, too.
        Err(_) if mentions(body) || holds(body, b"\\") => BodyMethod::Unknown,
        Err(_) => BodyMethod::None,
    }
}

/// The members of an object that replace the method, with their values.
struct MethodMembers(Vec<(&'static str, String)>);

impl<'de> Deserialize<'de> for MethodMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = MethodMembers;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<MethodMembers, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            match method_parameter(&name) {
                Some(known) => {
                    let texts = texts(members.next_value()?);
                    found.extend(texts.into_iter().map(|text| (known, text)));
                }
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(MethodMembers(found))
    }
}

/// The texts that a value may be read as: itself, or the members of a list. A number or an object
/// is no method.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(members) => members.into_iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}
