//! Signatures of Standard Webhooks 1.0: signing, and verification as a receiver does it.
//!
//! Owns the signed content: id, time and body, joined by dots. Its invariant: signatures are compared
//! in constant time, and one that is empty or of an unknown kind never counts.

use std::fmt::Write;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;

use super::key::{BASE64, PublicKey, Secret, SigningKey};
use crate::Timestamp;

/// By how much the times of sender and receiver may differ, either way.
pub const TOLERANCE: Duration = Duration::from_mins(5);

const BY_SECRET: &str = "v1";
const BY_PAIR: &str = "v1a";

/// The value of `webhook-signature`: a signature by each key, in that order, with spaces
/// between. `seconds` are those since the Unix epoch, as in `webhook-timestamp`.
pub fn sign(keys: &[SigningKey], id: &str, seconds: i64, body: &[u8]) -> String {
    let message = message(id, &seconds.to_string(), body);
    let mut signatures = String::new();
    for key in keys {
        let (kind, signature) = match key {
            SigningKey::Secret(secret) => {
                (BY_SECRET, BASE64.encode(hmac::sign(&hmac_key(secret), &message)))
            }
            SigningKey::Pair(pair) => (BY_PAIR, BASE64.encode(pair.sign(&message))),
        };
        let space = if signatures.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(signatures, "{space}{kind},{signature}");
    }
    signatures
}

fn message(id: &str, seconds: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat()
}

fn hmac_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.octets())
}

/// A key that signatures are checked with.
#[derive(Clone, Debug)]
pub enum VerificationKey {
    /// Checks `v1`.
    Secret(Secret),
    /// Checks `v1a`.
    Public(PublicKey),
}

/// The fields of a delivery that are about its signature, as they arrived.
#[derive(Clone, Copy, Debug)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`.
    pub signature: Option<&'a str>,
}

/// Why a delivery is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// A field is missing.
    #[error("unsigned: there is no {0}")]
    Unsigned(&'static str),
    /// The time is no number.
    #[error("webhook-timestamp is not a number of seconds")]
    NoTime,
    /// It was signed too long ago: it may be a replay by an eavesdropper.
    #[error("stale: signed {} s ago, and 300 s are allowed; is a clock wrong?", .0.as_secs())]
    Stale(Duration),
    /// It was signed in the future.
    #[error("signed {} s in the future, and 300 s are allowed; is a clock wrong?", .0.as_secs())]
    Early(Duration),
    /// None of its signatures is of the kind that the key checks.
    #[error("no signature is of the kind that this key checks ({0})")]
    OtherKind(&'static str),
    /// No signature was made with this key for this message.
    #[error("wrong signature: another secret, or a body that was changed on the way")]
    Wrong,
}

/// Whether a delivery comes from who has the key, unchanged, and recently.
pub fn verify(
    signed: SignatureHeaders<'_>,
    body: &[u8],
    key: &VerificationKey,
    now: Timestamp,
) -> Result<(), VerificationError> {
    let id = signed.id.ok_or(VerificationError::Unsigned("webhook-id"))?;
    let seconds = signed.timestamp.ok_or(VerificationError::Unsigned("webhook-timestamp"))?;
    let signatures = signed.signature.ok_or(VerificationError::Unsigned("webhook-signature"))?;
    check_time(seconds, now)?;
    let kind = match key {
        VerificationKey::Secret(_) => BY_SECRET,
        VerificationKey::Public(_) => BY_PAIR,
    };
    let mut of_kind = signatures
        .split(' ')
        .filter_map(|token| token.split_once(','))
        .filter_map(|(of, signature)| (of == kind && !signature.is_empty()).then_some(signature))
        .peekable();
    of_kind.peek().ok_or(VerificationError::OtherKind(kind))?;
    let message = message(id, seconds, body);
    match of_kind.filter_map(|text| BASE64.decode(text).ok()).any(|s| fits(key, &message, &s)) {
        true => Ok(()),
        false => Err(VerificationError::Wrong),
    }
}

fn fits(key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
    match key {
        VerificationKey::Secret(secret) => {
            hmac::verify(&hmac_key(secret), message, signature).is_ok()
        }
        VerificationKey::Public(public) => public.verifies(message, signature),
    }
}

fn check_time(seconds: &str, now: Timestamp) -> Result<(), VerificationError> {
    let seconds: i64 = seconds.parse().map_err(|_| VerificationError::NoTime)?;
    let signed = Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    if now.since(signed) > TOLERANCE {
        return Err(VerificationError::Stale(now.since(signed)));
    }
    if signed.since(now) > TOLERANCE {
        return Err(VerificationError::Early(signed.since(now)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::key::KeyPair;
    use proptest::prelude::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECONDS: i64 = 1_614_265_330;
    const NOW: Timestamp = Timestamp::from_micros(SECONDS * 1_000_000);

    fn secret() -> Secret {
        Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    fn checked(
        signature: &str,
        key: &VerificationKey,
        now: Timestamp,
    ) -> Result<(), VerificationError> {
        let timestamp = SECONDS.to_string();
        let signed = SignatureHeaders {
            id: Some(ID),
            timestamp: Some(&timestamp),
            signature: Some(signature),
        };
        verify(signed, BODY, key, now)
    }

    #[test]
    fn the_known_answer_is_given() {
        let signature = sign(&[SigningKey::Secret(secret())], ID, SECONDS, BODY);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_live_key_signs_the_current_one_first() {
        let keys = [
            SigningKey::Secret(secret()),
            SigningKey::Secret(Secret::new([1; 32])),
            SigningKey::Pair(KeyPair::new([2; 32]).unwrap()),
        ];
        let signature = sign(&keys, ID, SECONDS, BODY);
        let kinds: Vec<_> =
            signature.split(' ').map(|one| one.split_once(',').unwrap().0).collect();
        assert_eq!(kinds, ["v1", "v1", "v1a"]);
        assert!(signature.starts_with("v1,g0hM9SsE+OTPJTGt/"));
        let public = KeyPair::new([2; 32]).unwrap().public();
        for key in [
            VerificationKey::Secret(secret()),
            VerificationKey::Secret(Secret::new([1; 32])),
            VerificationKey::Public(public),
        ] {
            assert_eq!(checked(&signature, &key, NOW), Ok(()), "{key:?}");
        }
    }

    #[test]
    fn why_a_delivery_is_not_believed_is_told() {
        let good = sign(&[SigningKey::Secret(secret())], ID, SECONDS, BODY);
        let key = VerificationKey::Secret(secret());
        let other = VerificationKey::Secret(Secret::new([1; 32]));
        assert_eq!(checked(&good, &other, NOW), Err(VerificationError::Wrong));
        let far = TOLERANCE + Duration::from_secs(1);
        assert_eq!(checked(&good, &key, NOW + TOLERANCE), Ok(()));
        assert_eq!(checked(&good, &key, NOW - TOLERANCE), Ok(()));
        assert_eq!(checked(&good, &key, NOW + far), Err(VerificationError::Stale(far)));
        assert_eq!(checked(&good, &key, NOW - far), Err(VerificationError::Early(far)));
        // An empty signature must not count as one of the right kind.
        for empty in ["", "v1", "v1,", "v1, v2,x", "v1a,AAAA"] {
            assert_eq!(
                checked(empty, &key, NOW),
                Err(VerificationError::OtherKind("v1")),
                "{empty}"
            );
        }
        for wrong in ["v1,AAAA", "v1,!!", "v2,x v1,AAAA"] {
            assert_eq!(checked(wrong, &key, NOW), Err(VerificationError::Wrong), "{wrong}");
        }
    }

    #[test]
    fn a_field_that_is_missing_is_named() {
        let key = VerificationKey::Secret(secret());
        let all = SignatureHeaders { id: Some(ID), timestamp: Some("x"), signature: Some("v1,x") };
        let missing = |signed| verify(signed, BODY, &key, NOW).unwrap_err();
        assert_eq!(
            missing(SignatureHeaders { id: None, ..all }),
            VerificationError::Unsigned("webhook-id")
        );
        let no_time = VerificationError::Unsigned("webhook-timestamp");
        assert_eq!(missing(SignatureHeaders { timestamp: None, ..all }), no_time);
        let no_signature = VerificationError::Unsigned("webhook-signature");
        assert_eq!(missing(SignatureHeaders { signature: None, ..all }), no_signature);
        assert_eq!(missing(all), VerificationError::NoTime);
    }

    proptest! {
        #[test]
        fn no_other_message_has_the_same_signature(at in 0..BODY.len(), by in 1u8..) {
            let pair = KeyPair::new([2; 32]).unwrap();
            let public = VerificationKey::Public(pair.public());
            let keys = [SigningKey::Secret(secret()), SigningKey::Pair(pair)];
            let signature = sign(&keys, ID, SECONDS, BODY);
            let mut changed = BODY.to_vec();
            changed[at] ^= by;
            let seconds = SECONDS.to_string();
            let signed =
                SignatureHeaders { id: Some(ID), timestamp: Some(&seconds), signature: Some(&signature) };
            for key in [&public, &VerificationKey::Secret(secret())] {
                prop_assert_eq!(verify(signed, BODY, key, NOW), Ok(()));
                prop_assert_eq!(verify(signed, &changed, key, NOW), Err(VerificationError::Wrong));
            }
        }
    }
}
