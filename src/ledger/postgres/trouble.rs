//! What was wrong with the database, in the terms of callers' decisions.

use crate::ledger::error::LedgerError;

/// No room on the server's disk.
const DISK_FULL: &str = "53100";
/// The order of two transactions could not be kept, or each waited for the other.
const CONTENDED: [&str; 2] = ["40001", "40P01"];
/// A value or a row that cannot be: bad data, broken constraints, more than fits.
const ABOUT_A_ROW: [&str; 3] = ["22", "23", "54"];
/// What the server itself found damaged.
const DAMAGED: &str = "XX";

/// What was wrong.
#[expect(clippy::needless_pass_by_value, reason = "it is used as an argument of map_err")]
pub(super) fn trouble(error: sqlx::Error) -> LedgerError {
    let says = error.to_string();
    let code = match &error {
        sqlx::Error::Database(database) => database.code().unwrap_or_default(),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
            return LedgerError::Damaged(says);
        }
        _ => return LedgerError::Unavailable(says),
    };
    if code == DISK_FULL {
        return LedgerError::Full;
    }
    if CONTENDED.contains(&&*code) {
        return LedgerError::Contended(says);
    }
    match code.get(..2) {
        Some(class) if class == DAMAGED || ABOUT_A_ROW.contains(&class) => {
            LedgerError::Damaged(says)
        }
        _ => LedgerError::Unavailable(says),
    }
}
