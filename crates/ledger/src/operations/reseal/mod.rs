//! The walk that seals stored values with the current key, beside all other work.
//!
//! Owns the walk: which values there are, in which order they are looked at, and how many at once.
//! Its invariant: a value is replaced only while it is what was read, so nothing that is written
//! meanwhile is lost; a value that moved on meanwhile is counted, and another walk finds it. One
//! text is for both engines.

pub(crate) mod walk;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, on_either};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::error::LedgerError;
use crate::operations::reseal::walk::step;
use cloakroom_domain::sealing::SealingError;

/// The most names that are told of what cannot be opened.
const NAMES: usize = 10;

/// Where a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResealCursor {
    /// Behind the operation in this row.
    Operations(i64),
    /// Behind this piece of this body.
    Pieces(i64, u32),
    /// Behind the message with this number.
    Messages(i64),
    /// Behind the delivery with this number.
    Deliveries(i64),
    /// Behind the receiver with this number.
    Receivers(i64),
    /// Behind the signing key with this number.
    Keys(i64),
}

impl ResealCursor {
    /// Where a walk begins.
    pub const START: Self = Self::Operations(0);

    const fn next_stage(self) -> Option<Self> {
        Some(match self {
            Self::Operations(_) => Self::Pieces(i64::MIN, 0),
            Self::Pieces(..) => Self::Messages(0),
            Self::Messages(_) => Self::Deliveries(0),
            Self::Deliveries(_) => Self::Receivers(0),
            Self::Receivers(_) => Self::Keys(0),
            Self::Keys(_) => return None,
        })
    }
}

impl fmt::Display for ResealCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operations(row) => write!(f, "operations.{row}"),
            Self::Pieces(body, part) => write!(f, "pieces.{body}.{part}"),
            Self::Messages(row) => write!(f, "messages.{row}"),
            Self::Deliveries(row) => write!(f, "deliveries.{row}"),
            Self::Receivers(row) => write!(f, "receivers.{row}"),
            Self::Keys(row) => write!(f, "keys.{row}"),
        }
    }
}

/// A text names no place in a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a walk goes on at the `next` of the answer before")]
pub struct NoCursor;

impl FromStr for ResealCursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (stage, rest) = text.split_once('.').ok_or(NoCursor)?;
        let row = || rest.parse().map_err(|_| NoCursor);
        Ok(match stage {
            "operations" => Self::Operations(row()?),
            "pieces" => {
                let (body, part) = rest.split_once('.').ok_or(NoCursor)?;
                let body = body.parse().map_err(|_| NoCursor)?;
                Self::Pieces(body, part.parse().map_err(|_| NoCursor)?)
            }
            "messages" => Self::Messages(row()?),
            "deliveries" => Self::Deliveries(row()?),
            "receivers" => Self::Receivers(row()?),
            "keys" => Self::Keys(row()?),
            _ => return Err(NoCursor),
        })
    }
}

/// What a part of a walk came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Rows that were looked at.
    pub looked_at: u64,
    /// Values that are sealed with the key that seals, and were not before.
    pub resealed: u64,
    /// Values that moved on while they were looked at.
    pub missed: u64,
    /// Values that no key opens.
    pub unopened: u64,
    /// Why, of some of them.
    pub reasons: Vec<String>,
    /// Where the walk goes on; none at its end.
    pub next: Option<ResealCursor>,
}

impl Resealed {
    /// Counts what another part came to, and goes on where that did.
    pub fn add(&mut self, other: Self) {
        self.looked_at += other.looked_at;
        self.resealed += other.resealed;
        self.missed += other.missed;
        self.unopened += other.unopened;
        self.reasons.extend(other.reasons);
        self.reasons.truncate(NAMES);
        self.next = other.next;
    }

    /// Whether everything that was looked at is sealed with the key that seals, and was before.
    pub const fn found_nothing(&self) -> bool {
        self.resealed == 0 && self.missed == 0 && self.unopened == 0
    }

    /// Takes note of a value that may have to be written anew.
    fn note<T>(
        &mut self,
        name: impl fmt::Display,
        anew: Result<Option<T>, SealingError>,
    ) -> Option<T> {
        anew.unwrap_or_else(|error| {
            self.unopened += 1;
            if self.reasons.len() < NAMES {
                self.reasons.push(format!("{name}: {error}"));
            }
            None
        })
    }

    fn replaced(&mut self, was_there: bool) {
        match was_there {
            true => self.resealed += 1,
            false => self.missed += 1,
        }
    }
}

/// Seals anew what lies open or under an earlier key, one part of a walk.
pub(crate) struct ResealOnce {
    pub(crate) cursor: ResealCursor,
}

#[async_trait]
impl Verb for ResealOnce {
    type Output = Resealed;

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        on_either!(transaction, writing => step(&mut **writing, self.cursor).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for cursor in [
            ResealCursor::START,
            ResealCursor::Pieces(i64::MIN, 7),
            ResealCursor::Messages(3),
            ResealCursor::Deliveries(4),
            ResealCursor::Receivers(5),
            ResealCursor::Keys(6),
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for wrong in ["", "operations", "operations.x", "pieces.1", "others.1", "keys.1.2"] {
            assert_eq!(wrong.parse::<ResealCursor>(), Err(NoCursor), "{wrong}");
        }
    }
}
