//! The stored form of ledger values: plain, or sealed for one place in the ledger.
//!
//! Owns how stored octets and texts are written. A value is stored as it is, unless its first octet is
//! the marker of sealed values; then one more octet tells the two apart. Its invariants: a sealed value
//! opens in its own place alone, a value stored before there was a key comes back unchanged, and no
//! nonce is used twice. Randomness is an argument. It must not know of tables.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::NONCE_LEN;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

use super::OperationId;
use super::sealing::{ID, KeyId, Keyring, SealingError, SealingKey};

/// Begins stored octets that are not the plain value. No UTF-8 has it, so few values begin so.
const MARK: u8 = 0xc1;
/// Behind [`MARK`]: the rest is the plain value.
const PLAIN: u8 = 0;
/// Behind [`MARK`]: the rest is a key's id, a nonce, and the value under AES-256-GCM.
const SEALED: u8 = 1;
/// Octets before the sealed value.
const HEAD: usize = 2 + ID + NONCE_LEN;
/// Octets behind the sealed value.
const TAG: usize = 16;

/// Begins a stored text that is not the plain text; base64 of stored octets follows. No field and
/// no request target has it.
const TEXT_MARK: char = '\u{1}';
/// Behind [`TEXT_MARK`]: the rest is the plain text. Base64 does not begin so.
const TEXT_PLAIN: char = '=';

/// Octets that stored octets begin with, so that statements can look for a key.
pub const PREFIX: usize = 2 + ID;

/// The kind of a stored value. Its number is part of the seal's context and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SealedValue {
    /// The fields of a request.
    Fields = 1,
    /// The body of a request, or a task's arguments.
    Body = 2,
    /// The credentials of a request.
    Credentials = 3,
    /// The query of a request's target.
    Query = 4,
    /// The key that the upstream is sent.
    UpstreamKey = 5,
    /// Where an operation's callbacks go.
    Callback = 6,
    /// The fields of an answer.
    AnswerFields = 7,
    /// The body of an answer.
    AnswerBody = 8,
    /// What an answer named as created.
    Created = 9,
    /// What to go on from.
    Continuation = 10,
    /// What is said of an operation's progress.
    Progress = 11,
    /// A piece of a large body.
    Piece = 12,
    /// The body of a message.
    Message = 13,
    /// Where a delivery goes.
    Delivery = 14,
    /// What a person found out.
    Verdict = 15,
}

/// The place of a value in the ledger, which its seal is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext {
    what: SealedValue,
    of: [u8; 16],
}

impl SealContext {
    /// Of the operation with this id.
    pub fn of_operation(what: SealedValue, id: OperationId) -> Self {
        Self { what, of: *id.as_bytes() }
    }

    /// In the row with this number.
    pub fn in_row(what: SealedValue, number: i64) -> Self {
        Self::in_part(what, number, 0)
    }

    /// The part with this number, in the row with that one.
    pub fn in_part(what: SealedValue, number: i64, part: u32) -> Self {
        let mut of = [0; 16];
        let (row, rest) = of.split_at_mut(8);
        row.copy_from_slice(&number.to_be_bytes());
        rest[..4].copy_from_slice(&part.to_be_bytes());
        Self { what, of }
    }
}

/// Seals and opens what one process stores. There is one for each opened ledger.
#[derive(Debug)]
pub struct Sealer {
    keyring: Keyring,
    /// A random number of 96 bits: nonces count up from it.
    start: u128,
    count: AtomicU64,
}

impl Sealer {
    /// One with these keys. The random octets are never the same for two processes.
    pub fn new(keyring: Keyring, random: [u8; NONCE_LEN]) -> Self {
        let start = random.iter().fold(0, |start, octet| start << 8 | u128::from(*octet));
        Self { keyring, start, count: AtomicU64::new(0) }
    }

    /// Its keys.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let [_, _, _, _, nonce @ ..] = self.start.wrapping_add(u128::from(count)).to_be_bytes();
        nonce
    }

    /// Octets as they are stored there.
    pub fn octets(&self, place: SealContext, plain: Vec<u8>) -> Result<Vec<u8>, SealingError> {
        match self.stored(place, &plain)? {
            Some(stored) => Ok(stored),
            None => Ok(plain),
        }
    }

    /// The same without a copy of those that are stored as they are.
    pub fn bytes(&self, place: SealContext, plain: &Bytes) -> Result<Bytes, SealingError> {
        Ok(self.stored(place, plain)?.map_or_else(|| plain.clone(), Bytes::from))
    }

    /// None where they are stored as they are.
    fn stored(&self, place: SealContext, plain: &[u8]) -> Result<Option<Vec<u8>>, SealingError> {
        match &self.keyring.current {
            Some(key) => self.sealed(key, place, plain).map(Some),
            None if plain.first() == Some(&MARK) => Ok(Some([&[MARK, PLAIN], plain].concat())),
            None => Ok(None),
        }
    }

    fn sealed(
        &self,
        key: &SealingKey,
        place: SealContext,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealingError> {
        let nonce = self.nonce();
        let mut stored = Vec::with_capacity(HEAD + plain.len() + TAG);
        stored.extend_from_slice(&prefix(key.id()));
        stored.extend_from_slice(&nonce);
        let bound_to = bound(&stored, place);
        stored.extend_from_slice(plain);
        key.lock(nonce, &bound_to, &mut stored, HEAD)?;
        Ok(stored)
    }

    /// The octets that are stored there.
    pub fn opened(&self, place: SealContext, stored: &[u8]) -> Result<Vec<u8>, SealingError> {
        let Some(rest) = stored.strip_prefix(&[MARK]) else { return Ok(stored.to_vec()) };
        match rest.split_first() {
            Some((&PLAIN, plain)) => Ok(plain.to_vec()),
            Some((&SEALED, rest)) => {
                let (id, rest) = rest.split_first_chunk().ok_or(SealingError::Damaged)?;
                let (nonce, sealed) = rest.split_first_chunk().ok_or(SealingError::Damaged)?;
                let key = self.keyring.key(KeyId::from_octets(*id))?;
                key.unlock(*nonce, &bound(stored, place), sealed.to_vec())
            }
            _ => Err(SealingError::Damaged),
        }
    }

    /// A text as it is stored there.
    pub fn text(&self, place: SealContext, plain: &str) -> Result<String, SealingError> {
        Ok(match &self.keyring.current {
            Some(key) => {
                let mut stored = String::from(TEXT_MARK);
                STANDARD_NO_PAD
                    .encode_string(self.sealed(key, place, plain.as_bytes())?, &mut stored);
                stored
            }
            None if plain.starts_with(TEXT_MARK) => format!("{TEXT_MARK}{TEXT_PLAIN}{plain}"),
            None => plain.to_owned(),
        })
    }

    /// The text that is stored there.
    pub fn opened_text(&self, place: SealContext, stored: &str) -> Result<String, SealingError> {
        let Some(rest) = stored.strip_prefix(TEXT_MARK) else { return Ok(stored.to_owned()) };
        if let Some(plain) = rest.strip_prefix(TEXT_PLAIN) {
            return Ok(plain.to_owned());
        }
        let octets = STANDARD_NO_PAD.decode(rest).map_err(|_| SealingError::Damaged)?;
        String::from_utf8(self.opened(place, &octets)?).map_err(|_| SealingError::Damaged)
    }

    /// A request target as it is stored: its path can be read, its query is sealed.
    pub fn target(&self, id: OperationId, target: &str) -> Result<String, SealingError> {
        match target.split_once('?') {
            Some((path, query)) => Ok(format!(
                "{path}?{}",
                self.text(SealContext::of_operation(SealedValue::Query, id), query)?
            )),
            None => Ok(target.to_owned()),
        }
    }

    /// The request target that is stored.
    pub fn opened_target(&self, id: OperationId, stored: &str) -> Result<String, SealingError> {
        match stored.split_once('?') {
            Some((path, query)) => {
                let query =
                    self.opened_text(SealContext::of_operation(SealedValue::Query, id), query)?;
                Ok(format!("{path}?{query}"))
            }
            None => Ok(stored.to_owned()),
        }
    }

    /// How octets begin that are sealed with the key that seals; none where none does.
    pub fn current_prefix(&self) -> Option<[u8; PREFIX]> {
        self.keyring.current().map(prefix)
    }

    fn is_current(&self, stored: &[u8]) -> bool {
        self.current_prefix().is_none_or(|current| stored.starts_with(&current))
    }

    /// Stored octets under the key that seals; none where they are, or where none does.
    pub fn resealed(
        &self,
        place: SealContext,
        stored: &[u8],
    ) -> Result<Option<Vec<u8>>, SealingError> {
        match self.is_current(stored) {
            true => Ok(None),
            false => self.octets(place, self.opened(place, stored)?).map(Some),
        }
    }

    /// The same of a stored text.
    pub fn resealed_text(
        &self,
        place: SealContext,
        stored: &str,
    ) -> Result<Option<String>, SealingError> {
        let octets = match stored.strip_prefix(TEXT_MARK) {
            Some(rest) => STANDARD_NO_PAD.decode(rest).unwrap_or_default(),
            None => Vec::new(),
        };
        match self.is_current(&octets) {
            true => Ok(None),
            false => self.text(place, &self.opened_text(place, stored)?).map(Some),
        }
    }

    /// The same of a stored request target.
    pub fn resealed_target(
        &self,
        id: OperationId,
        stored: &str,
    ) -> Result<Option<String>, SealingError> {
        let Some((path, query)) = stored.split_once('?') else { return Ok(None) };
        let anew = self.resealed_text(SealContext::of_operation(SealedValue::Query, id), query)?;
        Ok(anew.map(|query| format!("{path}?{query}")))
    }
}

const fn prefix(key: KeyId) -> [u8; PREFIX] {
    let [a, b, c, d] = *key.as_octets();
    [MARK, SEALED, a, b, c, d]
}

/// What a sealed value is bound to: its head and its place.
fn bound(stored: &[u8], place: SealContext) -> [u8; HEAD + 17] {
    let mut bound_to = [0; HEAD + 17];
    let head = stored.len().min(HEAD);
    bound_to[..head].copy_from_slice(&stored[..head]);
    bound_to[HEAD] = place.what as u8;
    bound_to[HEAD + 1..].copy_from_slice(&place.of);
    bound_to
}

#[cfg(test)]
#[path = "sealer_tests.rs"]
mod tests;
