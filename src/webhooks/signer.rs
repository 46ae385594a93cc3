//! The signer: the header fields of a delivery, with its signatures.
//!
//! Owns the header fields of a delivery. Its invariant: the fields that a subscriber adds are set
//! first and overwritten, so that they change none of the gateway's.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, USER_AGENT};

use cloakroom_domain::Timestamp;
use cloakroom_domain::http::via;
use cloakroom_domain::webhooks::extra_fields;
use cloakroom_domain::webhooks::{SigningKey, signature};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
/// Which keys have signed, in the order of the signatures: their numbers, as the API shows
/// them. A receiver that is called back and subscribed, too, has a secret for each.
const KEY_ID: HeaderName = HeaderName::from_static("webhook-key-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const SENDER: HeaderValue =
    HeaderValue::from_static(concat!("cloakroom/", env!("CARGO_PKG_VERSION")));

/// A message, the same for all its receivers and on every attempt.
#[derive(Clone, Debug)]
pub struct WebhookMessage {
    id: String,
    body: Bytes,
    content_type: HeaderValue,
}

/// The keys that sign a message.
#[derive(Debug, Default)]
pub struct SigningKeys {
    /// All live keys, the current one first.
    pub keys: Vec<SigningKey>,
    /// The name of each key, in the same order.
    pub names: Vec<String>,
}

/// The id of a message cannot be signed and written: it has visible ASCII without quotes,
/// backslashes and dots, at most 256 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has up to 256 visible ASCII characters, without quotes, backslashes and dots")]
pub struct BadMessageId;

impl WebhookMessage {
    /// A message with that `webhook-id`.
    pub fn new(
        id: impl Into<String>,
        body: impl Into<Bytes>,
        content_type: HeaderValue,
    ) -> Result<Self, BadMessageId> {
        let (id, body) = (id.into(), body.into());
        let plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b'.');
        match (1..=256).contains(&id.len()) && id.bytes().all(plain) {
            true => Ok(Self { id, body, content_type }),
            false => Err(BadMessageId),
        }
    }

    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// All its fields for an attempt at `now`, but those of the connection.
    pub(super) fn fields(
        &self,
        extra: &HeaderMap,
        signers: &SigningKeys,
        now: Timestamp,
    ) -> HeaderMap {
        let seconds = now.as_micros().div_euclid(1_000_000);
        let signature = signature::sign(&signers.keys, &self.id, seconds, &self.body);
        let mut fields = added(extra);
        fields.insert(CONTENT_TYPE, self.content_type.clone());
        fields.insert(USER_AGENT, SENDER);
        fields.insert(TIMESTAMP, HeaderValue::from(seconds));
        insert(&mut fields, ID, &self.id);
        insert(&mut fields, IDEMPOTENCY_KEY, &format!("\"{}\"", self.id));
        insert(&mut fields, SIGNATURE, &signature);
        if !signers.names.is_empty() {
            insert(&mut fields, KEY_ID, &signers.names.join(" "));
        }
        fields
    }
}

/// The fields of a request that asks for something and delivers nothing.
pub(super) fn asking(extra: &HeaderMap) -> HeaderMap {
    let mut fields = added(extra);
    fields.insert(USER_AGENT, SENDER);
    fields
}

fn added(extra: &HeaderMap) -> HeaderMap {
    let mut fields = extra.clone();
    extra_fields::remove_reserved(&mut fields);
    fields
}

/// All of these are visible ASCII: ids were looked at, and signatures are base64.
fn insert(fields: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        fields.insert(name, value);
    }
}

/// Marks a request as one of this gateway's, so that it recognises it should it come back.
pub(super) fn mark(fields: &mut HeaderMap, mark: &HeaderValue) {
    via::add_cdn_loop(fields, mark);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::webhooks::Secret;

    const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

    #[test]
    fn a_delivery_says_who_it_is_when_it_was_sent_and_who_says_so() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = &br#"{"test": 2432232314}"#[..];
        let message = WebhookMessage::new("msg_p5jXN8AQM9LWM0D4loKWxJek", body, JSON).unwrap();
        let now = Timestamp::from_micros(1_614_265_330_999_999);
        let signers =
            SigningKeys { keys: vec![SigningKey::Secret(secret)], names: vec!["12".to_owned()] };
        let fields = message.fields(&HeaderMap::new(), &signers, now);
        for (name, value) in [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("idempotency-key", "\"msg_p5jXN8AQM9LWM0D4loKWxJek\""),
            ("webhook-key-id", "12"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("content-type", "application/json; charset=utf-8"),
        ] {
            assert_eq!(fields[name], value);
        }
        assert!(fields["user-agent"].to_str().unwrap().starts_with("cloakroom/"));
    }

    #[test]
    fn no_field_that_was_added_changes_those_of_the_delivery() {
        let mut extra = HeaderMap::new();
        for name in ["webhook-id", "webhook_id", "content-type", "content_length", "host"] {
            extra.append(HeaderName::from_static(name), HeaderValue::from_static("evil"));
        }
        extra.append("x-mine", HeaderValue::from_static("good"));
        let message = WebhookMessage::new("msg_1", "{}", JSON).unwrap();
        let fields = message.fields(&extra, &SigningKeys::default(), Timestamp::EPOCH);
        assert!(fields["x-mine"] == "good" && !fields.values().any(|value| value == "evil"));
    }

    #[test]
    fn an_id_that_would_break_what_is_signed_is_refused() {
        for id in ["", "a.b", "a b", "a\"b", "a\\b", "\u{e4}", "a\n", &"a".repeat(257)] {
            assert!(WebhookMessage::new(id, "{}", JSON).is_err(), "{id:?}");
        }
        assert!(WebhookMessage::new("a".repeat(256), "{}", JSON).is_ok());
    }
}
