//! Secrets at rest: sealed under the operator's key, opened under it or an earlier one.
//!
//! Owns the form of what is stored: one octet that says how, then either the secret as it
//! is, or the id of a key, a nonce, and the secret under AES-256-GCM. Its invariants: what
//! was sealed opens only for the purpose it was sealed for, and a key that is missing is
//! told apart from octets that are damaged. Randomness is an argument.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// Octets of a key's id.
const ID: usize = 4;

/// What operators are told who keep secrets without a key.
pub const NOT_SEALED: &str = "webhook secrets and subscribers' headers are stored as they are: \
                              set secrets.key, so that a copy of the ledger gives none away";

/// A key that secrets are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// The key of these octets.
    pub fn new(octets: [u8; 32]) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// What tells it apart, and nothing about it.
    fn id(&self) -> [u8; ID] {
        let digest = blake3::derive_key("cloakroom 2026 id of a key that seals secrets", &*self.0);
        let (id, _) = digest.split_first_chunk().unwrap_or((&[0; ID], &[]));
        *id
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &*self.0).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

/// A secret cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// The key that sealed it is not configured.
    #[error(
        "a stored secret was sealed with a key that is not configured ({0}): put that key into \
         secrets.key or secrets.previous"
    )]
    UnknownKey(String),
    /// The octets are not what was stored, or were stored for another purpose.
    #[error("a stored secret is damaged")]
    Damaged,
}

/// The keys that a gateway has.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    current: Option<SealingKey>,
    previous: Vec<SealingKey>,
}

impl Keyring {
    /// `current` seals; all open.
    pub fn new(current: Option<SealingKey>, previous: Vec<SealingKey>) -> Self {
        Self { current, previous }
    }

    /// Whether anything is sealed at all.
    pub const fn is_sealing(&self) -> bool {
        self.current.is_some()
    }

    /// A secret in the form in which it is stored. `purpose` says what it is and whose, and
    /// has to be the same when it is opened; `nonce` is random, and never the same twice.
    pub fn seal(
        &self,
        purpose: &str,
        secret: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Vec<u8>, SealingError> {
        let Some(key) = &self.current else {
            return Ok([&[PLAIN], secret].concat());
        };
        let mut head = vec![SEALED];
        head.extend(key.id());
        head.extend(nonce);
        let aad = Aad::from([&head, purpose.as_bytes()].concat());
        let mut sealed = secret.to_vec();
        let cipher = key.cipher().ok_or(SealingError::Damaged)?;
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_| SealingError::Damaged)?;
        head.extend(sealed);
        Ok(head)
    }

    /// The secret in what was stored.
    pub fn open(&self, purpose: &str, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let (kind, rest) = stored.split_first().ok_or(SealingError::Damaged)?;
        match *kind {
            PLAIN => Ok(Zeroizing::new(rest.to_vec())),
            SEALED => self.unsealed(purpose, stored, rest),
            _ => Err(SealingError::Damaged),
        }
    }

    fn unsealed(
        &self,
        purpose: &str,
        stored: &[u8],
        rest: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let (id, rest) = rest.split_first_chunk::<ID>().ok_or(SealingError::Damaged)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(SealingError::Damaged)?;
        let mut keys = self.current.iter().chain(&self.previous);
        let key = keys.find(|key| key.id() == *id).ok_or_else(|| {
            let digits = id.iter().fold(0_u128, |all, octet| all << 8 | u128::from(*octet));
            SealingError::UnknownKey(format!("{digits:0width$x}", width = ID * 2))
        })?;
        let head = &stored[..stored.len() - sealed.len()];
        let aad = Aad::from([head, purpose.as_bytes()].concat());
        let mut opened = Zeroizing::new(sealed.to_vec());
        let cipher = key.cipher().ok_or(SealingError::Damaged)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length =
            cipher.open_in_place(nonce, aad, &mut opened).map_err(|_| SealingError::Damaged)?.len();
        opened.truncate(length);
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(octet: u8) -> SealingKey {
        SealingKey::new([octet; 32])
    }

    fn ring(current: u8, previous: &[u8]) -> Keyring {
        Keyring::new(Some(key(current)), previous.iter().map(|octet| key(*octet)).collect())
    }

    #[test]
    fn without_a_key_secrets_are_stored_as_they_are_and_can_be_read_with_one() {
        let stored = Keyring::default().seal("a", b"secret", [0; 12]).unwrap();
        assert_eq!(stored, b"\0secret");
        assert_eq!(&*ring(1, &[]).open("a", &stored).unwrap(), b"secret");
        assert!(!Keyring::default().is_sealing() && ring(1, &[]).is_sealing());
    }

    #[test]
    fn an_earlier_key_opens_what_it_sealed_and_a_missing_one_is_named() {
        let stored = ring(1, &[]).seal("a", b"secret", [7; 12]).unwrap();
        assert_eq!(&*ring(2, &[1]).open("a", &stored).unwrap(), b"secret");
        for without in [ring(2, &[3]), Keyring::default()] {
            let error = without.open("a", &stored).unwrap_err();
            assert!(matches!(&error, SealingError::UnknownKey(id) if id.len() == 8), "{error}");
            assert!(error.to_string().contains("secrets.previous"));
        }
    }

    #[test]
    fn a_key_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", key(9)), "SealingKey(..)");
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_for_its_purpose_alone_and_not_when_damaged(
            secret in prop::collection::vec(any::<u8>(), 0..80),
            nonce: [u8; 12],
            at: prop::sample::Index,
            by in 1u8..
        ) {
            let ring = ring(1, &[]);
            let mut stored = ring.seal("secret of a", &secret, nonce).unwrap();
            prop_assert_eq!(&*ring.open("secret of a", &stored).unwrap(), &secret);
            prop_assert_eq!(ring.open("secret of b", &stored), Err(SealingError::Damaged));
            let at = at.index(stored.len() - 1) + 1;
            stored[at] ^= by;
            prop_assert!(ring.open("secret of a", &stored).is_err());
        }

        #[test]
        fn any_octets_are_opened_or_refused_and_never_a_panic(
            stored in prop::collection::vec(any::<u8>(), 0..60)
        ) {
            let _ = ring(1, &[2]).open("", &stored);
        }
    }
}
