//! Errors of the database, in the terms of callers' decisions.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::error::LedgerError;

/// No room on the server's disk.
const DISK_FULL: &str = "53100";
/// The order of two transactions could not be kept, or each waited for the other.
const CONTENDED: [&str; 2] = ["40001", "40P01"];
/// A value or a row that cannot be: bad data, broken constraints, more than fits.
const ABOUT_A_ROW: [&str; 3] = ["22", "23", "54"];
/// What the server itself found damaged.
const DAMAGED: &str = "XX";

/// An error that has no code of its own.
const INTERNAL: &str = "XX000";

/// The server ends the connection, or all of them: it stops, starts, or has crashed.
const SEVERED: [&str; 4] = ["57P01", "57P02", "57P03", "25P03"];
/// Errors of a connection.
const OF_CONNECTION: &str = "08";

/// What was wrong, and whether that says something about other connections too.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: LedgerError,
    pub(crate) severed: bool,
}

impl Fault {
    /// The server does not answer: it may be gone.
    pub(crate) fn silence(limit: Duration) -> Self {
        let says = format!("the database has not answered for {} s", limit.as_secs());
        Self { error: LedgerError::Unavailable(says), severed: true }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self { severed: is_severed(&error), error: trouble(error) }
    }
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

/// Whether the connection broke, rather than what was asked on it. A statement that was
/// too slow, or waited too long for a lock, says nothing about the server.
fn is_severed(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            SEVERED.contains(&&*code)
                || code.get(..2) == Some(OF_CONNECTION)
                || is_lost(&**database)
        }
        _ => false,
    }
}

/// Whether a pooler says that it has lost the server. pgpool's words for that have the code of an
/// internal error, as damage may have, and end the connection, as damage does not.
pub(crate) fn is_lost(error: &dyn DatabaseError) -> bool {
    error.code().as_deref() == Some(INTERNAL)
        && error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// What was wrong.
#[expect(clippy::needless_pass_by_value, reason = "it is used as an argument of map_err")]
pub(crate) fn trouble(error: sqlx::Error) -> LedgerError {
    let says = error.to_string();
    let code = match &error {
        sqlx::Error::Database(database) if is_lost(&**database) => {
            return LedgerError::Unavailable(says);
        }
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
