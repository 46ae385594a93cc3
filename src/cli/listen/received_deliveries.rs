//! The record of received deliveries: counts, repeats and verification.
//!
//! Owns which deliveries were seen before. Pure: the time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::signature::{
    SignatureHeaders, VerificationError, VerificationKey, verify,
};

/// Everything that has arrived so far.
#[derive(Debug, Default)]
pub(super) struct ReceivedDeliveries {
    /// By id: how often, and when last.
    seen: HashMap<String, (u32, Timestamp)>,
    unbelieved: u64,
}

/// A delivery, and what to think of it.
#[derive(Debug)]
pub(in crate::cli) struct ReceivedDelivery {
    pub(in crate::cli) at: Timestamp,
    /// `webhook-id`, if it has one.
    pub(in crate::cli) id: Option<String>,
    /// The body, if it is JSON.
    pub(in crate::cli) event: Option<Value>,
    /// Bytes of the body.
    pub(in crate::cli) length: usize,
    /// How often this id has come, this time included.
    pub(in crate::cli) times: u32,
    /// How long ago it came before.
    pub(in crate::cli) since: Option<Duration>,
    /// Whether it is verified; not checked without a key.
    pub(in crate::cli) trust: Result<Verification, VerificationError>,
}

/// How a delivery that is not refused stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Verification {
    Verified,
    NotChecked,
}

impl ReceivedDelivery {
    /// A member of the event, or of its data.
    pub(in crate::cli) fn member(&self, name: &str) -> Option<&Value> {
        let event = self.event.as_ref()?;
        event.get(name).or_else(|| event.get("data")?.get(name))
    }
}

impl ReceivedDeliveries {
    /// Enters a delivery.
    pub(super) fn enter(
        &mut self,
        fields: &HeaderMap,
        body: &[u8],
        keys: &[VerificationKey],
        now: Timestamp,
    ) -> ReceivedDelivery {
        let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
        let signed = SignatureHeaders {
            id: text("webhook-id"),
            timestamp: text("webhook-timestamp"),
            signature: text("webhook-signature"),
        };
        let trust = trust(signed, body, keys, now);
        self.unbelieved += u64::from(trust.is_err());
        let id = signed.id.map(str::to_owned);
        let before = id.as_ref().and_then(|id| self.seen.get(id).copied());
        let times = before.map_or(1, |(times, _)| times + 1);
        if let Some(id) = &id {
            self.seen.insert(id.clone(), (times, now));
        }
        ReceivedDelivery {
            at: now,
            id,
            event: serde_json::from_slice(body).ok(),
            length: body.len(),
            times,
            since: before.map(|(_, at)| now.since(at)),
            trust,
        }
    }

    /// How many were not to be believed.
    pub(super) const fn unbelieved(&self) -> u64 {
        self.unbelieved
    }
}

/// One key that fits is enough; else what the first one says.
fn trust(
    signed: SignatureHeaders<'_>,
    body: &[u8],
    keys: &[VerificationKey],
    now: Timestamp,
) -> Result<Verification, VerificationError> {
    let mut why = None;
    for key in keys {
        match verify(signed, body, key, now) {
            Ok(()) => return Ok(Verification::Verified),
            Err(unverified) => why = why.or(Some(unverified)),
        }
    }
    why.map_or(Ok(Verification::NotChecked), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::webhooks::{Secret, SigningKey, signature};

    const NOW: Timestamp = Timestamp::from_micros(1_614_265_330_000_000);
    const BODY: &[u8] = br#"{"type":"operation.failed","data":{"sequence":3}}"#;

    fn signed(with: Secret) -> HeaderMap {
        let signature = signature::sign(&[SigningKey::Secret(with)], "msg_1", 1_614_265_330, BODY);
        let fields = [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", &signature),
        ];
        let parsed = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        parsed.into_iter().collect()
    }

    fn keys() -> [VerificationKey; 2] {
        [1, 2].map(|octet| VerificationKey::Secret(Secret::new([octet; 32])))
    }

    #[test]
    fn any_of_several_keys_is_enough_and_none_is_told() {
        let mut book = ReceivedDeliveries::default();
        let mut enter = |secret, keys: &[_]| book.enter(&signed(secret), BODY, keys, NOW).trust;
        assert_eq!(enter(Secret::new([2; 32]), &keys()), Ok(Verification::Verified));
        assert_eq!(enter(Secret::new([3; 32]), &keys()), Err(VerificationError::Wrong));
        assert_eq!(enter(Secret::new([3; 32]), &[]), Ok(Verification::NotChecked));
        let unsigned = book.enter(&HeaderMap::new(), BODY, &keys(), NOW);
        assert_eq!(unsigned.trust, Err(VerificationError::Unsigned("webhook-id")));
        assert_eq!(book.unbelieved(), 2);
    }

    #[test]
    fn what_comes_again_is_known_and_when_it_came_before() {
        let mut book = ReceivedDeliveries::default();
        let fields = signed(Secret::new([1; 32]));
        let first = book.enter(&fields, BODY, &[], NOW);
        assert_eq!((first.times, first.since), (1, None));
        assert_eq!(first.member("type").unwrap(), "operation.failed");
        assert_eq!(first.member("sequence").unwrap(), 3);
        let later = NOW + Duration::from_secs(5);
        let again = book.enter(&fields, b"no json", &[], later);
        assert_eq!((again.times, again.since), (2, Some(Duration::from_secs(5))));
        assert_eq!(again.member("type"), None);
    }
}
