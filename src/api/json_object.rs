//! The JSON object in a request body, read member by member.
//!
//! Owns the refusals that are the same everywhere: no JSON, no object, a member that is there
//! twice, is not known or is of another kind. Each names the member. A form of another site cannot send
//! the content type that is asked for.

use axum::body::{Body, to_bytes};
use axum::extract::FromRequest;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::extract::ApiState;
use super::openapi::Refusal;
use super::{Problem, json};

/// The longest body, in octets.
const LONGEST: usize = 64 * 1024;

/// The members of a body; of an empty body none.
#[derive(Clone)]
pub(super) struct JsonObject(Map<String, Value>);

/// The value of a member in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberValue<T> {
    /// The object has no such member.
    Absent,
    /// The member is null.
    Null,
    /// The member has this value.
    Present(T),
}

impl<T> MemberValue<T> {
    /// The value, if the member is present and not null.
    pub(super) fn present(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

impl FromRequest<ApiState> for JsonObject {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &ApiState) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let too_large = |_| Problem::document_too_large(LONGEST as u64);
        let octets = to_bytes(body, LONGEST).await.map_err(too_large)?;
        let is_json = json::is_named(&head.headers);
        if octets.is_empty() && (is_json || !head.headers.contains_key(CONTENT_TYPE)) {
            return Ok(Self(Map::new()));
        }
        if !is_json {
            return Err(Problem::not_json());
        }
        Self::read(&octets)
    }
}

impl JsonObject {
    /// Reads an object.
    pub(super) fn read(octets: &[u8]) -> Result<Self, Problem> {
        match json::read(octets)? {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(Problem::malformed_body(None, "the body has to be a JSON object")),
        }
    }

    /// Refuses what is not known here.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(64).collect();
                let known = match known {
                    [] => "none are".to_owned(),
                    known => format!("known are {}", known.join(", ")),
                };
                let detail = format!("{shown:?} cannot be set here; {known}");
                Err(Problem::malformed_body(Some(&shown), detail))
            }
        }
    }

    /// The value of a member, of any type.
    pub(super) fn any(&mut self, name: &str) -> MemberValue<Value> {
        match self.0.remove(name) {
            None => MemberValue::Absent,
            Some(Value::Null) => MemberValue::Null,
            Some(value) => MemberValue::Present(value),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<MemberValue<String>, Problem> {
        Ok(match self.any(name) {
            MemberValue::Present(Value::String(text)) => MemberValue::Present(text),
            MemberValue::Present(_) => return Err(wrong(name, "a text")),
            MemberValue::Null => MemberValue::Null,
            MemberValue::Absent => MemberValue::Absent,
        })
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &str) -> Result<MemberValue<Vec<String>>, Problem> {
        let items = match self.any(name) {
            MemberValue::Present(Value::Array(items)) => items,
            MemberValue::Present(_) => return Err(wrong(name, "a list of texts")),
            MemberValue::Null => return Ok(MemberValue::Null),
            MemberValue::Absent => return Ok(MemberValue::Absent),
        };
        let text = |item| match item {
            Value::String(text) => Ok(text),
            _ => Err(wrong(name, "a list of texts")),
        };
        items.into_iter().map(text).collect::<Result<_, _>>().map(MemberValue::Present)
    }

    /// Yes or no.
    pub(super) fn truth(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.any(name).present() else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong(name, "true or false"))
    }

    /// A whole number within bounds.
    pub(super) fn whole(
        &mut self,
        name: &str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let Some(value) = self.any(name).present() else { return Ok(None) };
        let says = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let number = value.as_u64().filter(|number| bounds.contains(number));
        number.map(Some).ok_or_else(|| wrong(name, &says))
    }
}

fn wrong(name: &str, right: &str) -> Problem {
    Problem::malformed_body(Some(name), format!("{name} has to be {right}"))
}

/// How a body is refused that is longer than may be.
pub(super) const TOO_LARGE: Refusal = (413, "The body is too large.");
/// How a body is refused that is not announced as JSON.
pub(super) const NO_JSON: Refusal = (415, "The body is not announced as JSON.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_an_object_of_known_members() {
        let twice = "{\"b\":1,\"b\":1}";
        let cases =
            [("", None), ("[]", None), ("{", None), ("{\"a\":1}", Some("a")), (twice, Some("b"))];
        for (text, field) in cases {
            let read = JsonObject::read(text.as_bytes());
            let refused = read.and_then(|members| members.only(&["b"]).map(|()| members));
            let (status, _, body) = refused.err().unwrap().into_parts();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((status.as_u16(), body["field"].as_str()), (400, field), "{text}");
        }
    }

    #[test]
    fn null_and_nothing_are_told_apart() {
        let mut members = JsonObject::read(b"{\"a\":null,\"b\":\"x\",\"c\":[1]}").unwrap();
        assert_eq!(members.text("a").unwrap(), MemberValue::Null);
        assert_eq!(members.text("b").unwrap(), MemberValue::Present("x".into()));
        assert_eq!(members.text("z").unwrap(), MemberValue::Absent);
        assert!(members.texts("c").is_err());
    }
}
