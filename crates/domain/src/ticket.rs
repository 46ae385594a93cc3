//! The identity of an operation, and the ticket that proves the right to see it.
//!
//! The id is public: logs, traces, metrics and the upstream carry it. The ticket is the
//! id and a tail that only the holder of the [`TicketKey`] can make, so that seeing an
//! id somewhere gives no access. Nothing is stored to check a ticket.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use uuid::Uuid;

use super::Timestamp;

/// Which ledger an operation lives in: the first eight random bits of its id.
pub type LedgerNumber = u8;

/// The id of an operation: a UUID version 7 (RFC 9562 section 5.7) whose bits behind
/// the time are fresh for every id, never a counter, and whose octet 8 low bits and
/// octet 9 carry the [`LedgerNumber`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(Uuid);

/// Octet of the UUID that holds the ledger number. Octets 6 and 8 share bits with the
/// version and the variant; 9 is free.
const LEDGER_OCTET: usize = 9;

impl OperationId {
    /// A new id. `random` must be fresh from a cryptographic generator for each call:
    /// neighbours in time must not be guessable from one another.
    pub fn new(now: Timestamp, ledger: LedgerNumber, random: [u8; 10]) -> Self {
        let uuid = uuid::Builder::from_unix_timestamp_millis(now.as_unix_millis(), &random);
        let mut octets = uuid.into_uuid().into_bytes();
        octets[LEDGER_OCTET] = ledger;
        Self(Uuid::from_bytes(octets))
    }

    /// The ledger that this operation lives in.
    pub fn ledger(self) -> LedgerNumber {
        self.0.as_bytes()[LEDGER_OCTET]
    }

    /// The sixteen octets, as they are stored.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of sixteen stored octets.
    pub fn from_bytes(octets: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(octets))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not an operation id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an operation id: a UUID such as 0192f7c0-5a3e-7c21-9b00-3f1c5d7e9a10 is expected")]
pub struct NotAnId;

impl FromStr for OperationId {
    type Err = NotAnId;

    /// Reads the hyphenated lower-case form only, so that an id has one spelling.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let uuid = Uuid::try_parse(text).map_err(|_| NotAnId)?;
        let id = Self(uuid);
        if id.to_string() == text { Ok(id) } else { Err(NotAnId) }
    }
}

/// The octets of a ticket's tail.
const TAIL_LENGTH: usize = 16;

/// What names an operation in a client's URL: `{id}-{32 hexadecimal digits}`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    id: OperationId,
    tail: [u8; TAIL_LENGTH],
}

impl Ticket {
    /// The operation that the ticket names.
    pub fn id(self) -> OperationId {
        self.id
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:032x}", self.id, u128::from_be_bytes(self.tail))
    }
}

/// Makes and checks tickets, and the tokens that let an upstream report progress.
///
/// One per ledger, made at random when the ledger is created and kept in it.
#[derive(Clone)]
pub struct TicketKey([u8; 32]);

/// Keeps the uses of one key apart: a tail is never a progress token.
#[derive(Clone, Copy)]
enum MacPurpose {
    Ticket = 1,
    Progress = 2,
}

impl TicketKey {
    /// A key of 32 octets from a cryptographic generator.
    pub fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The ticket of an operation.
    pub fn ticket(&self, id: OperationId) -> Ticket {
        Ticket { id, tail: self.tail(MacPurpose::Ticket, id, 0) }
    }

    /// The operation that `text` is the ticket of, if its tail is the right one.
    /// The comparison takes the same time wherever it differs.
    pub fn open(&self, text: &str) -> Option<OperationId> {
        let (id, tail) = text.split_at_checked(36)?;
        let id = id.parse().ok()?;
        let tail = unhex(tail.strip_prefix('-')?)?;
        self.matches(MacPurpose::Ticket, id, 0, tail).then_some(id)
    }

    /// The token that lets one attempt, named by its number, report progress.
    pub fn progress_token(&self, id: OperationId, attempt: u32) -> String {
        let tail = self.tail(MacPurpose::Progress, id, attempt);
        format!("{attempt}-{}", hex(&tail))
    }

    /// The number of the attempt that a progress token was made for, if it was made for
    /// this operation.
    pub fn open_progress_token(&self, id: OperationId, text: &str) -> Option<u32> {
        let (attempt, tail) = text.split_once('-')?;
        let attempt = attempt.parse().ok()?;
        self.matches(MacPurpose::Progress, id, attempt, unhex(tail)?).then_some(attempt)
    }

    /// A keyed digest of something secret (a credential), for comparing it later
    /// without keeping it.
    pub fn digest(&self, context: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(context.as_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }

    fn tail(&self, purpose: MacPurpose, id: OperationId, attempt: u32) -> [u8; TAIL_LENGTH] {
        let mut message = [0; 21];
        message[0] = purpose as u8;
        message[1..17].copy_from_slice(id.as_bytes());
        message[17..].copy_from_slice(&attempt.to_le_bytes());
        let mut tail = [0; TAIL_LENGTH];
        tail.copy_from_slice(&blake3::keyed_hash(&self.0, &message).as_bytes()[..TAIL_LENGTH]);
        tail
    }

    fn matches(
        &self,
        purpose: MacPurpose,
        id: OperationId,
        attempt: u32,
        tail: [u8; TAIL_LENGTH],
    ) -> bool {
        let expected = self.tail(purpose, id, attempt);
        expected.iter().zip(tail).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; TAIL_LENGTH]> {
    let digits = text.as_bytes();
    let canonical = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * TAIL_LENGTH || !digits.iter().all(canonical) {
        return None;
    }
    let mut octets = [0; TAIL_LENGTH];
    for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: u8) -> OperationId {
        OperationId::new(Timestamp::from_micros(1_700_000_000_000_000), 7, [seed; 10])
    }

    #[test]
    fn an_id_is_a_version_7_uuid_that_names_its_ledger() {
        assert_eq!(id(0xff).0.get_version_num(), 7);
        assert_eq!(id(0xff).ledger(), 7);
    }

    #[test]
    fn an_id_has_one_spelling() {
        let text = id(0xab).to_string();
        assert_eq!(text.parse(), Ok(id(0xab)));
        assert_eq!(text.to_uppercase().parse::<OperationId>(), Err(NotAnId));
        assert_eq!(text.replace('-', "").parse::<OperationId>(), Err(NotAnId));
    }

    #[test]
    fn a_ticket_opens_only_with_its_own_tail_and_key() {
        let key = TicketKey::new([1; 32]);
        let ticket = key.ticket(id(1)).to_string();
        assert_eq!(key.open(&ticket), Some(id(1)));
        assert_eq!(TicketKey::new([2; 32]).open(&ticket), None);
        for position in 0..ticket.len() {
            let mut wrong = ticket.clone().into_bytes();
            wrong[position] = if wrong[position] == b'0' { b'1' } else { b'0' };
            assert_eq!(key.open(&String::from_utf8_lossy(&wrong)), None, "octet {position}");
        }
        assert_eq!(key.open(&id(1).to_string()), None);
        assert_eq!(key.open("é"), None);
    }

    #[test]
    fn a_progress_token_serves_one_attempt_of_one_operation() {
        let key = TicketKey::new([1; 32]);
        let token = key.progress_token(id(1), 42);
        assert_eq!(key.open_progress_token(id(1), &token), Some(42));
        assert_eq!(key.open_progress_token(id(2), &token), None);
        assert_eq!(key.open_progress_token(id(1), &token.replace("42-", "43-")), None);
        assert_eq!(key.open_progress_token(id(1), &key.ticket(id(1)).to_string()), None);
    }
}
