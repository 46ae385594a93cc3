//! The storage of webhook secrets: signing keys, and the fields that subscribers add.
//!
//! Owns the plaintext form inside the seal, and the owner it is sealed for. Its invariant: a secret
//! sealed for one owner opens for no other. Randomness is an argument.

use std::fmt;

use http::HeaderMap;
use zeroize::Zeroizing;

use super::extra_fields;
use super::key::{KeyPair, PublicKey, Secret, SigningKey};
use crate::Principal;
use crate::sealing::{Keyring, SealingError};

/// Octets of randomness that sealing takes.
pub type Nonce = [u8; 12];

/// The owner of a secret.
#[derive(Clone, Copy, Debug)]
pub enum SecretOwner<'a> {
    /// The subscription with this id.
    Subscription(&'a dyn OwnerId),
    /// A principal's callbacks.
    Callbacks(&'a Principal),
}

/// An id that can be written as text.
pub trait OwnerId: fmt::Display + fmt::Debug + Send + Sync {}

impl<T: fmt::Display + fmt::Debug + Send + Sync> OwnerId for T {}

impl SecretOwner<'_> {
    fn purpose(self, what: &str) -> String {
        match self {
            Self::Subscription(id) => format!("{what} of subscription {id}"),
            Self::Callbacks(principal) => {
                let digits = principal.as_bytes().iter().map(|octet| format!("{octet:02x}"));
                format!("{what} of callbacks {}", digits.collect::<String>())
            }
        }
    }
}

const KEY: &str = "signing key";
const FIELDS: &str = "headers";

/// A key as it is stored.
pub fn seal_key(
    keyring: &Keyring,
    whose: SecretOwner<'_>,
    key: &SigningKey,
    nonce: Nonce,
) -> Result<Vec<u8>, SealingError> {
    let text = match key {
        SigningKey::Secret(secret) => secret.reveal(),
        SigningKey::Pair(pair) => pair.reveal(),
    };
    keyring.seal(&whose.purpose(KEY), text.as_bytes(), nonce)
}

/// The key in what was stored.
pub fn open_key(
    keyring: &Keyring,
    whose: SecretOwner<'_>,
    stored: &[u8],
) -> Result<SigningKey, SealingError> {
    let text = keyring.open(&whose.purpose(KEY), stored)?;
    let text = std::str::from_utf8(&text).map_err(|_| SealingError::Damaged)?;
    SigningKey::parse(text).map_err(|_| SealingError::Damaged)
}

/// A stored key under the key that seals; none where it is.
pub fn resealed_key(
    keyring: &Keyring,
    whose: SecretOwner<'_>,
    stored: &[u8],
    nonce: Nonce,
) -> Result<Option<Vec<u8>>, SealingError> {
    keyring.resealed(&whose.purpose(KEY), stored, nonce)
}

/// The half of a stored key that anybody may know; none of a shared secret.
pub fn public_half(key: &SigningKey) -> Option<PublicKey> {
    match key {
        SigningKey::Secret(_) => None,
        SigningKey::Pair(pair) => Some(pair.public()),
    }
}

/// A subscriber's fields as they are stored: lines of name and value.
pub fn seal_fields(
    keyring: &Keyring,
    whose: SecretOwner<'_>,
    fields: &HeaderMap,
    nonce: Nonce,
) -> Result<Vec<u8>, SealingError> {
    let mut lines = Zeroizing::new(Vec::new());
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b":", value.as_bytes(), b"\n"] {
            lines.extend_from_slice(part);
        }
    }
    keyring.seal(&whose.purpose(FIELDS), &lines, nonce)
}

/// The fields in what was stored.
pub fn open_fields(
    keyring: &Keyring,
    whose: SecretOwner<'_>,
    stored: &[u8],
) -> Result<HeaderMap, SealingError> {
    let lines = keyring.open(&whose.purpose(FIELDS), stored)?;
    let lines = std::str::from_utf8(&lines).map_err(|_| SealingError::Damaged)?;
    let pairs: Option<Vec<_>> = lines.lines().map(|line| line.split_once(':')).collect();
    extra_fields::check(pairs.ok_or(SealingError::Damaged)?).map_err(|_| SealingError::Damaged)
}

/// Stored fields under the key that seals; none where they are.
pub fn resealed_fields(
    keyring: &Keyring,
    whose: SecretOwner<'_>,
    stored: &[u8],
    nonce: Nonce,
) -> Result<Option<Vec<u8>>, SealingError> {
    keyring.resealed(&whose.purpose(FIELDS), stored, nonce)
}

/// A new key that signs: of a pair where `paired`, else a shared secret.
pub fn new_key(paired: bool, random: [u8; 32]) -> Result<SigningKey, super::BadKey> {
    match paired {
        true => KeyPair::new(random).map(SigningKey::Pair),
        false => Ok(SigningKey::Secret(Secret::new(random))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::SealingKey;

    fn keyring() -> Keyring {
        Keyring::new(Some(SealingKey::new([7; 32])), Vec::new())
    }

    #[test]
    fn a_secret_sealed_for_one_owner_opens_for_no_other() {
        let keyring = keyring();
        let principals = [Principal::everyone(), Principal::named("ann")];
        let all = [
            SecretOwner::Subscription(&"0a"),
            SecretOwner::Subscription(&"0b"),
            SecretOwner::Callbacks(&principals[0]),
            SecretOwner::Callbacks(&principals[1]),
        ];
        for (paired, text) in [(false, "whsec_"), (true, "whsk_")] {
            let key = new_key(paired, [3; 32]).unwrap();
            for (number, whose) in all.into_iter().enumerate() {
                let kept = seal_key(&keyring, whose, &key, [1; 12]).unwrap();
                assert!(!String::from_utf8_lossy(&kept).contains(text));
                for (other, whom) in all.into_iter().enumerate() {
                    assert_eq!(open_key(&keyring, whom, &kept).is_ok(), number == other);
                }
                assert!(open_fields(&keyring, whose, &kept).is_err());
            }
            assert_eq!(public_half(&key).is_some(), paired);
        }
    }

    #[test]
    fn fields_come_back_as_they_were() {
        let fields = extra_fields::check([("x-a", "1: 2"), ("authorization", "Bearer :x ")]);
        let fields = fields.unwrap();
        let kept =
            seal_fields(&keyring(), SecretOwner::Subscription(&7), &fields, [1; 12]).unwrap();
        let opened = open_fields(&keyring(), SecretOwner::Subscription(&7), &kept).unwrap();
        assert_eq!(opened, fields);
        let none =
            seal_fields(&keyring(), SecretOwner::Subscription(&7), &HeaderMap::new(), [1; 12]);
        let none = open_fields(&keyring(), SecretOwner::Subscription(&7), &none.unwrap());
        assert_eq!(none, Ok(HeaderMap::new()));
    }
}
