//! The signing keys of deliveries and their text forms (Standard Webhooks 1.0): `whsec_…` for a shared
//! secret, `whsk_…` and `whpk_…` for a pair.
//!
//! Owns their bounds. Its invariant: a signing key is never printed by accident, and its octets are
//! wiped when it is dropped. Randomness is an argument.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// How long a shared secret may be, in bytes.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// The length of a seed and of a public key, in bytes.
const HALF: usize = 32;

const SECRET: &str = "whsec_";
const PAIR: &str = "whsk_";
const PUBLIC: &str = "whpk_";

/// Padding is written, and not asked for.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Octets as text.
pub(super) fn encode(octets: &[u8]) -> String {
    BASE64.encode(octets)
}

/// Why a text is not the key that it should be. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It begins differently.
    #[error("a key of this kind begins with `{0}`")]
    Prefix(&'static str),
    /// What follows is not base64.
    #[error("what follows `{0}` is not base64")]
    Encoding(&'static str),
    /// A secret of another length.
    #[error("a secret has 24 to 64 bytes in base64, and this one has {0}")]
    SecretLength(usize),
    /// Half a pair of another length, or halves that do not belong together.
    #[error("this is not an Ed25519 key: it has 32 bytes in base64, or 64 with its public half")]
    NotEd25519,
}

/// A secret that sender and receiver share: `whsec_…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A new secret from random octets.
    pub fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random.to_vec()))
    }

    /// Reads `whsec_…`.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let octets = decoded(text, SECRET)?;
        match SECRET_LENGTH.contains(&octets.len()) {
            true => Ok(Self(octets)),
            false => Err(BadKey::SecretLength(octets.len())),
        }
    }

    /// As it is handed out, once.
    pub fn reveal(&self) -> Zeroizing<String> {
        encoded(SECRET, &self.0)
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A pair of Ed25519 keys, of which the sender keeps one half: `whsk_…`.
pub struct KeyPair {
    seed: Zeroizing<Vec<u8>>,
    pair: Ed25519KeyPair,
}

impl KeyPair {
    /// A new pair from random octets.
    pub fn new(random: [u8; HALF]) -> Result<Self, BadKey> {
        Self::of(Zeroizing::new(random.to_vec()))
    }

    /// Reads `whsk_…`, with its public half or without.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let octets = decoded(text, PAIR)?;
        let (seed, public) = octets.split_at_checked(HALF).ok_or(BadKey::NotEd25519)?;
        let pair = Self::of(Zeroizing::new(seed.to_vec()))?;
        match public.is_empty() || public == pair.public_octets() {
            true => Ok(pair),
            false => Err(BadKey::NotEd25519),
        }
    }

    fn of(seed: Zeroizing<Vec<u8>>) -> Result<Self, BadKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| BadKey::NotEd25519)?;
        Ok(Self { seed, pair })
    }

    /// As it is kept: both halves.
    pub fn reveal(&self) -> Zeroizing<String> {
        let both = [&self.seed[..], self.public_octets()].concat();
        encoded(PAIR, &Zeroizing::new(both))
    }

    /// The half that anybody may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.public_octets().to_vec())
    }

    fn public_octets(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub(super) fn sign(&self, message: &[u8]) -> impl AsRef<[u8]> + use<> {
        self.pair.sign(message)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyPair").field(&self.public()).finish()
    }
}

/// The public half of a [`KeyPair`]: `whpk_…`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Reads `whpk_…`.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let octets = decoded(text, PUBLIC)?;
        match octets.len() == HALF {
            true => Ok(Self(octets.to_vec())),
            false => Err(BadKey::NotEd25519),
        }
    }

    /// The key itself, 32 octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that signs, of either kind.
#[derive(Debug)]
pub enum SigningKey {
    /// `v1`: HMAC-SHA256.
    Secret(Secret),
    /// `v1a`: Ed25519.
    Pair(KeyPair),
}

impl SigningKey {
    /// Reads a key of either kind.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        match text.starts_with(PAIR) {
            true => KeyPair::parse(text).map(Self::Pair),
            false => Secret::parse(text).map(Self::Secret),
        }
    }
}

fn decoded(text: &str, prefix: &'static str) -> Result<Zeroizing<Vec<u8>>, BadKey> {
    let octets = text.strip_prefix(prefix).ok_or(BadKey::Prefix(prefix))?;
    BASE64.decode(octets).map(Zeroizing::new).map_err(|_| BadKey::Encoding(prefix))
}

fn encoded(prefix: &str, octets: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + octets.len() * 2));
    text.push_str(prefix);
    BASE64.encode_string(octets, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_that_signs_is_not_shown_by_debug() {
        let secret = Secret::new([7; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let pair = KeyPair::new([7; 32]).unwrap();
        let shown = format!("{:?}", SigningKey::Pair(pair));
        assert!(shown.contains("whpk_") && !shown.contains(&BASE64.encode([7; 24])), "{shown}");
    }

    #[test]
    fn what_is_no_key_is_told_why_and_never_repeated() {
        let of = |octets: usize| format!("{SECRET}{}", BASE64.encode(vec![9; octets]));
        assert_eq!(Secret::parse(&of(23)), Err(BadKey::SecretLength(23)));
        assert_eq!(Secret::parse(&of(65)), Err(BadKey::SecretLength(65)));
        assert!(Secret::parse(&of(24)).is_ok() && Secret::parse(&of(64)).is_ok());
        assert_eq!(Secret::parse("hunter2"), Err(BadKey::Prefix("whsec_")));
        assert_eq!(Secret::parse("whsec_hunter 2"), Err(BadKey::Encoding("whsec_")));
        assert_eq!(PublicKey::parse("whpk_AAAA"), Err(BadKey::NotEd25519));
        assert_eq!(KeyPair::parse("whsk_AAAA").unwrap_err(), BadKey::NotEd25519);
        assert!(!Secret::parse("hunter2").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn halves_that_do_not_belong_together_are_no_pair() {
        let (one, other) = (KeyPair::new([1; 32]).unwrap(), KeyPair::new([2; 32]).unwrap());
        let mixed = [&one.seed[..], other.public_octets()].concat();
        let text = format!("{PAIR}{}", BASE64.encode(mixed));
        assert_eq!(KeyPair::parse(&text).unwrap_err(), BadKey::NotEd25519);
        let alone = format!("{PAIR}{}", BASE64.encode(&one.seed[..]));
        assert_eq!(KeyPair::parse(&alone).unwrap().public(), one.public());
    }

    proptest! {
        #[test]
        fn what_is_revealed_can_be_read_again(random: [u8; 32]) {
            let secret = Secret::new(random);
            prop_assert_eq!(Secret::parse(&secret.reveal()), Ok(secret));
            let pair = KeyPair::new(random).unwrap();
            let public = KeyPair::parse(&pair.reveal()).unwrap().public();
            prop_assert_eq!(&public, &pair.public());
            prop_assert_eq!(PublicKey::parse(&public.to_string()), Ok(public));
        }

        #[test]
        fn any_text_is_a_key_or_none_and_never_a_panic(text in "(whsec_|whsk_|whpk_)?.{0,100}") {
            let _ = (SigningKey::parse(&text), PublicKey::parse(&text));
        }
    }
}
