//! The sealing of secrets at rest, under the operator's current key or an earlier one.
//!
//! Owns the stored form: one octet for the scheme, then either the plain secret, or the id of a key, a
//! nonce, and the secret under AES-256-GCM. Its invariants: a sealed secret opens only for the purpose
//! it was sealed for, and a missing key is told apart from damaged octets. Randomness is an argument.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// Octets of a key's id.
pub(super) const ID: usize = 4;

/// The message for operators who keep a ledger without a key.
pub const NOT_SEALED: &str = "the ledger holds requests with their credentials, fields, queries and bodies, answers, \
                              webhook secrets and subscribers' headers as they are: set secrets.key, so that a copy \
                              of the ledger gives none of it away";

/// What tells a key apart, and says nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID]);

impl KeyId {
    /// The id with these octets.
    pub const fn from_octets(octets: [u8; ID]) -> Self {
        Self(octets)
    }

    /// Its octets.
    pub const fn as_octets(&self) -> &[u8; ID] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", u32::from_be_bytes(self.0), width = ID * 2)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key that secrets are sealed with.
#[derive(Clone)]
pub struct SealingKey(Arc<Material>);

/// What a key is made of, and what is made of it once.
struct Material {
    octets: Zeroizing<[u8; 32]>,
    id: KeyId,
    /// Setting it up costs more than sealing a small value.
    cipher: Option<LessSafeKey>,
}

impl SealingKey {
    /// The key of these octets.
    pub fn new(octets: [u8; 32]) -> Self {
        let octets = Zeroizing::new(octets);
        let digest = blake3::derive_key("cloakroom 2026 id of a key that seals secrets", &*octets);
        let (id, _) = digest.split_first_chunk().unwrap_or((&[0; ID], &[]));
        let cipher = UnboundKey::new(&AES_256_GCM, &*octets).ok();
        let cipher = cipher.map(LessSafeKey::new);
        Self(Arc::new(Material { octets, id: KeyId(*id), cipher }))
    }

    /// What tells it apart.
    pub fn id(&self) -> KeyId {
        self.0.id
    }

    fn cipher(&self) -> Result<&LessSafeKey, SealingError> {
        self.0.cipher.as_ref().ok_or(SealingError::Damaged)
    }

    /// Seals what `sealed` holds behind its first `from` octets, and puts the tag behind it.
    pub(super) fn lock(
        &self,
        nonce: [u8; NONCE_LEN],
        bound_to: &[u8],
        sealed: &mut Vec<u8>,
        from: usize,
    ) -> Result<(), SealingError> {
        let plain = sealed.get_mut(from..).ok_or(SealingError::Damaged)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.cipher()?.seal_in_place_separate_tag(nonce, Aad::from(bound_to), plain);
        sealed.extend_from_slice(tag.map_err(|_| SealingError::Damaged)?.as_ref());
        Ok(())
    }

    /// The plain octets of what was sealed, its tag behind it.
    pub(super) fn unlock(
        &self,
        nonce: [u8; NONCE_LEN],
        bound_to: &[u8],
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, SealingError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.cipher()?.open_in_place(nonce, Aad::from(bound_to), &mut sealed);
        let length = opened.map_err(|_| SealingError::Damaged)?.len();
        sealed.truncate(length);
        Ok(sealed)
    }
}

impl PartialEq for SealingKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.octets == other.0.octets
    }
}

impl Eq for SealingKey {}

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
    UnknownKey(KeyId),
    /// The octets are not what was stored, or were stored for another purpose.
    #[error("a stored secret is damaged")]
    Damaged,
}

/// The keys that a gateway has.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    pub(super) current: Option<SealingKey>,
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

    /// The key that seals.
    pub fn current(&self) -> Option<KeyId> {
        self.current.as_ref().map(SealingKey::id)
    }

    /// Whether it opens what that key sealed.
    pub fn has(&self, id: KeyId) -> bool {
        self.key(id).is_ok()
    }

    pub(super) fn key(&self, id: KeyId) -> Result<&SealingKey, SealingError> {
        let mut keys = self.current.iter().chain(&self.previous);
        keys.find(|key| key.id() == id).ok_or(SealingError::UnknownKey(id))
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
        let mut stored = vec![SEALED];
        stored.extend(key.id().0);
        stored.extend(nonce);
        let bound_to = [&stored, purpose.as_bytes()].concat();
        let from = stored.len();
        stored.extend(secret);
        key.lock(nonce, &bound_to, &mut stored, from)?;
        Ok(stored)
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
        let key = self.key(KeyId(*id))?;
        let head = &stored[..stored.len() - sealed.len()];
        let bound_to = [head, purpose.as_bytes()].concat();
        key.unlock(*nonce, &bound_to, sealed.to_vec()).map(Zeroizing::new)
    }

    /// A stored secret sealed with the key that seals; none where it is, or where none does.
    pub fn resealed(
        &self,
        purpose: &str,
        stored: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Option<Vec<u8>>, SealingError> {
        let Some(key) = &self.current else { return Ok(None) };
        if stored.strip_prefix(&[SEALED]).is_some_and(|rest| rest.starts_with(&key.id().0)) {
            return Ok(None);
        }
        let secret = self.open(purpose, stored)?;
        self.seal(purpose, &secret, nonce).map(Some)
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
            assert!(matches!(error, SealingError::UnknownKey(id) if id == key(1).id()), "{error}");
            assert!(error.to_string().contains("secrets.previous"));
        }
    }

    #[test]
    fn what_is_open_or_under_an_earlier_key_is_sealed_anew_and_the_rest_is_left_alone() {
        let open = Keyring::default().seal("a", b"secret", [0; 12]).unwrap();
        let old = ring(1, &[]).seal("a", b"secret", [1; 12]).unwrap();
        let keyring = ring(2, &[1]);
        for stored in [open, old] {
            let anew = keyring.resealed("a", &stored, [2; 12]).unwrap().unwrap();
            assert_eq!(&*ring(2, &[]).open("a", &anew).unwrap(), b"secret");
            assert_eq!(keyring.resealed("a", &anew, [3; 12]), Ok(None));
            assert_eq!(Keyring::default().resealed("a", &stored, [2; 12]), Ok(None));
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
