//! Rows as values, whichever engine keeps them: what is read from one, what is put into
//! one, and what every state's row carries.
//!
//! Owns the meaning of columns, which both engines name alike. It must not know how a
//! statement is made or run.

mod carried;
mod lane;
pub(crate) mod node;
mod operation;
mod sealed;

use std::time::Duration;

use sqlx::{ColumnIndex, Database, Decode, Row, Type};

pub(super) use crate::rows::carried::{
    EventRow, ReadyRow, RunState, RunningRow, WaitingRow, carried, next_of_key, ready_row,
    ready_twin, running_row, waited, waiting_row,
};
pub(super) use crate::rows::lane::{home, named, numbered, overdue, with_quarantines};
pub(super) use crate::rows::node::{NODES, node, owned, put_vitals, sign};
pub(super) use crate::rows::operation::{
    Plain, Standing, answer, delivery_name, event, events, holdings, key_in_use, key_name, leased,
    on_failure_name, operation, operations, origins, promised, promises, remains, standing_at,
};
pub(super) use crate::rows::sealed::{
    StoredAnswer, StoredWork, check_pieces, continuation, kept_continuation, maybe_sealed, piece,
    stored_continuation, stored_message, stored_piece, stored_verdict,
};

use crate::error::LedgerError;
use cloakroom_domain::operation::Fingerprint;
use cloakroom_domain::{OperationId, Timestamp};

/// Tags as they are stored beside their operation, for showing; `tags` is for finding.
pub(super) const TAG_SEPARATOR: &str = "\n";

/// Says that a stored value makes no sense.
pub(super) fn damaged(what: impl std::fmt::Display) -> LedgerError {
    LedgerError::Damaged(what.to_string())
}

/// A row that was read. A column that is NULL is none.
pub(super) trait ReadRow {
    /// A whole number.
    fn number(&self, column: &str) -> Result<Option<i64>, LedgerError>;
    /// A text.
    fn text(&self, column: &str) -> Result<Option<&str>, LedgerError>;
    /// Octets.
    fn octets(&self, column: &str) -> Result<Option<&[u8]>, LedgerError>;
    /// Yes or no.
    fn flag(&self, column: &str) -> Result<bool, LedgerError>;
}

impl<R: Row> ReadRow for R
where
    for<'c> &'c str: ColumnIndex<R>,
    for<'r> Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<&'r str>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<&'r [u8]>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> bool: Decode<'r, R::Database> + Type<R::Database>,
    R::Database: Database<Row = R>,
{
    fn number(&self, column: &str) -> Result<Option<i64>, LedgerError> {
        self.try_get(column).map_err(damaged)
    }

    fn text(&self, column: &str) -> Result<Option<&str>, LedgerError> {
        self.try_get(column).map_err(damaged)
    }

    fn octets(&self, column: &str) -> Result<Option<&[u8]>, LedgerError> {
        self.try_get(column).map_err(damaged)
    }

    fn flag(&self, column: &str) -> Result<bool, LedgerError> {
        self.try_get(column).map_err(damaged)
    }
}

/// Takes the values of a row in, in the order of its columns.
pub(super) trait BindRow {
    /// A whole number.
    fn number(&mut self, value: impl Into<Option<i64>>) -> &mut Self;
    /// A text.
    fn text(&mut self, value: impl Into<Option<String>>) -> &mut Self;
    /// Octets.
    fn octets(&mut self, value: impl Into<Option<Vec<u8>>>) -> &mut Self;
}

fn missing(column: &str) -> LedgerError {
    damaged(format!("{column} is missing"))
}

/// A number that is there.
pub(super) fn number<N: TryFrom<i64>>(row: &impl ReadRow, column: &str) -> Result<N, LedgerError> {
    maybe_number(row, column)?.ok_or_else(|| missing(column))
}

/// A number.
pub(super) fn maybe_number<N: TryFrom<i64>>(
    row: &impl ReadRow,
    column: &str,
) -> Result<Option<N>, LedgerError> {
    let fits = |value| N::try_from(value).map_err(|_| damaged(format!("{column} is {value}")));
    row.number(column)?.map(fits).transpose()
}

/// A text that is there.
pub(super) fn text<'r>(row: &'r impl ReadRow, column: &str) -> Result<&'r str, LedgerError> {
    row.text(column)?.ok_or_else(|| missing(column))
}

/// A text of one's own.
pub(super) fn maybe_text(row: &impl ReadRow, column: &str) -> Result<Option<String>, LedgerError> {
    Ok(row.text(column)?.map(str::to_owned))
}

/// Octets that are there.
pub(super) fn octets<'r>(row: &'r impl ReadRow, column: &str) -> Result<&'r [u8], LedgerError> {
    row.octets(column)?.ok_or_else(|| missing(column))
}

/// So many octets, neither more nor fewer.
pub(super) fn exactly<const N: usize>(
    row: &impl ReadRow,
    column: &str,
) -> Result<Option<[u8; N]>, LedgerError> {
    row.octets(column)?.map(TryInto::try_into).transpose().map_err(damaged)
}

/// The fingerprint that a key stands for.
pub(super) fn fingerprint(row: &impl ReadRow) -> Result<Fingerprint, LedgerError> {
    exactly(row, "fingerprint")?.map(Fingerprint::stored).ok_or_else(|| missing("fingerprint"))
}

/// An instant that is there.
pub(super) fn time(row: &impl ReadRow, column: &str) -> Result<Timestamp, LedgerError> {
    maybe_time(row, column)?.ok_or_else(|| missing(column))
}

/// An instant.
pub(super) fn maybe_time(
    row: &impl ReadRow,
    column: &str,
) -> Result<Option<Timestamp>, LedgerError> {
    Ok(row.number(column)?.map(Timestamp::from_micros))
}

/// An id that is there.
pub(super) fn id(row: &impl ReadRow, column: &str) -> Result<OperationId, LedgerError> {
    maybe_id(row, column)?.ok_or_else(|| missing(column))
}

/// An id.
pub(super) fn maybe_id(
    row: &impl ReadRow,
    column: &str,
) -> Result<Option<OperationId>, LedgerError> {
    Ok(exactly(row, column)?.map(OperationId::from_bytes))
}

/// A duration that is there.
fn micros(row: &impl ReadRow, column: &str) -> Result<Duration, LedgerError> {
    number::<i64>(row, column).map(|micros| Duration::from_micros(micros.unsigned_abs()))
}

/// A duration as it is stored.
pub(super) fn as_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
