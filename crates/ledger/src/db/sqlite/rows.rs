//! Rows of this engine as values, and values as its rows.

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::error::LedgerError;
pub(crate) use crate::rows::*;

/// The value of a column.
pub(crate) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &str,
) -> Result<T, LedgerError> {
    row.try_get(column).map_err(damaged)
}

/// Where operations are that have not ended: what `operations` leaves to each engine.
macro_rules! places {
    () => {
        r"
            LEFT JOIN running u ON u.seq = o.seq
            LEFT JOIN ready r ON r.seq = o.seq
            LEFT JOIN waiting w ON w.seq = o.seq"
    };
}
pub(crate) use places;
