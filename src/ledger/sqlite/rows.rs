//! Rows of this engine as values, and values as its rows.

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use super::batch::Values;
use crate::ledger::error::LedgerError;
pub(super) use crate::ledger::rows::*;

/// The value of a column.
pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &str,
) -> Result<T, LedgerError> {
    row.try_get(column).map_err(damaged)
}

impl Cells for Values {
    fn number(&mut self, value: impl Into<Option<i64>>) -> &mut Self {
        self.put(value.into())
    }

    fn text(&mut self, value: impl Into<Option<String>>) -> &mut Self {
        self.put(value.into())
    }

    fn octets(&mut self, value: impl Into<Option<Vec<u8>>>) -> &mut Self {
        self.put(value.into())
    }

    fn flag(&mut self, value: bool) -> &mut Self {
        self.put(value)
    }
}
