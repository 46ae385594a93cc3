//! The open of the file: it takes one gateway at a time, a library that is safe, and a schema that is
//! up to date.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use crate::db::schema::{Text, bring_up_to_date};
use crate::db::sqlite::Opening;
use crate::db::sqlite::writer::Writer;
use crate::error::{LedgerError, OpenError};

/// Every migration.
const MIGRATIONS: [Text; 1] =
    [(1, "ledger", include_str!("../../../../../migrations/sqlite/0001_ledger.sql"))];
/// The first SQLite without the WAL-reset bug.
const SAFE_VERSION: (u32, u32, u32) = (3, 51, 3);
/// Pages in the write-ahead log before it is written back; the same where the disk has little room.
const CHECKPOINT_PAGES: (u32, u32) = (16_000, 500);
/// Statements that each reader keeps prepared.
const STATEMENTS: usize = 64;
/// What is erased is overwritten.
const SECURE_DELETE: (&str, &str) = ("secure_delete", "ON");

/// The version of the SQLite library, as in `3.51.3`.
pub fn sqlite_version() -> String {
    libsqlite3_sys::SQLITE_VERSION.to_string_lossy().into_owned()
}

/// Refuses a library that can corrupt the file.
pub(crate) fn check_library(version: &str) -> Result<(), OpenError> {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let found = (next(), next(), next());
    if found < SAFE_VERSION {
        return Err(OpenError::UnsafeSqlite(version.to_owned()));
    }
    Ok(())
}

/// What was wrong with a database, in the terms of callers' decisions.
#[expect(clippy::needless_pass_by_value, reason = "it is used as an argument of map_err")]
pub(crate) fn trouble(error: sqlx::Error) -> LedgerError {
    let code = match &error {
        sqlx::Error::Database(database) => {
            database.code().and_then(|code| code.parse::<i32>().ok())
        }
        _ => None,
    };
    classified(code, error.to_string())
}

/// The same of the connection that writes.
#[expect(clippy::needless_pass_by_value, reason = "it is used as an argument of map_err")]
pub(crate) fn native_trouble(error: rusqlite::Error) -> LedgerError {
    let code = error.sqlite_error().map(|error| error.extended_code);
    classified(code, error.to_string())
}

fn classified(code: Option<i32>, says: String) -> LedgerError {
    match code {
        Some(libsqlite3_sys::SQLITE_FULL | libsqlite3_sys::SQLITE_IOERR_SHMSIZE) => {
            LedgerError::Full
        }
        Some(libsqlite3_sys::SQLITE_IOERR_FSYNC | libsqlite3_sys::SQLITE_IOERR_DIR_FSYNC) => {
            LedgerError::NotDurable(says)
        }
        Some(libsqlite3_sys::SQLITE_INTERRUPT) => LedgerError::Unavailable(
            "a question took too long and was given up: ask for less".to_owned(),
        ),
        // The low octet is the family of the code.
        Some(code) if code & 0xff == libsqlite3_sys::SQLITE_CONSTRAINT => {
            LedgerError::Damaged(says)
        }
        _ => LedgerError::Unavailable(says),
    }
}

/// Says that the file could not be read.
pub(crate) fn unreadable(path: &Path, reason: impl std::fmt::Display) -> OpenError {
    OpenError::Unreadable { path: path.display().to_string(), reason: reason.to_string() }
}

/// Holds the right to the file for this process; `flock` frees it however that ends.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    pub(crate) fn take(ledger: &Path) -> Result<Self, OpenError> {
        let path = beside(ledger, "lock");
        let file = owned_file(&path).map_err(|error| unreadable(&path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(OpenError::InUse { path: ledger.display().to_string() })
            }
            Err(TryLockError::Error(error)) => Err(unreadable(&path, error)),
        }
    }
}

/// A file beside the ledger, named after it.
pub(crate) fn beside(ledger: &Path, suffix: &str) -> PathBuf {
    beside_as(ledger, &format!(".{suffix}"))
}

/// The same with all that is added to its name.
pub(crate) fn beside_as(ledger: &Path, added: &str) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(added);
    PathBuf::from(name)
}

/// Whether the log ahead of the ledger holds anything.
pub(crate) fn has_log(ledger: &Path) -> bool {
    let mut log = ledger.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Opens a file that only this user may read, creating it if there is none.
fn owned_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// How every connection to the file is made.
fn options(opening: &Opening) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&opening.path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(Duration::from_secs(10))
        .statement_cache_capacity(STATEMENTS)
        .pragma(SECURE_DELETE.0, SECURE_DELETE.1)
        .disable_statement_logging()
}

/// The connection that brings the file's schema up to date, for the time of opening.
pub(crate) async fn opener(opening: &Opening) -> Result<SqliteConnection, OpenError> {
    let failed = |error| unreadable(&opening.path, error);
    owned_file(&opening.path).map_err(|error| unreadable(&opening.path, error))?;
    let mut connection = options(opening).connect().await.map_err(failed)?;
    let place = opening.path.display().to_string();
    let migrated = bring_up_to_date(&mut connection, &MIGRATIONS, &place, opening.migrate).await;
    if let Err(error) = migrated {
        // Dropped, it would let go of the file only after the next opening.
        let _ = connection.close().await;
        return Err(error);
    }
    Ok(connection)
}

/// The one connection that writes from then on.
pub(crate) fn writer(path: &Path, next_seq: i64) -> Result<Writer, LedgerError> {
    // That the log is written ahead is a property of the file.
    let pragmas =
        [("synchronous", "FULL"), ("foreign_keys", "OFF"), SECURE_DELETE, ("cache_size", "-16000")];
    Writer::open(path, &pragmas, next_seq)
}

/// How many pages the log may have before it is written back.
pub(crate) const fn checkpoint_pages(scarce: bool) -> u32 {
    if scarce { CHECKPOINT_PAGES.1 } else { CHECKPOINT_PAGES.0 }
}

/// How connections that only read are made.
pub(crate) fn reader(opening: &Opening) -> SqliteConnectOptions {
    options(opening).read_only(true).pragma("cache_size", "-4000").row_buffer_size(128)
}

/// Left behind when a write could not be made durable: the next start looks closely.
pub(crate) fn mark_suspect(ledger: &Path) {
    if let Err(error) = owned_file(&beside(ledger, "suspect")) {
        tracing::warn!(%error, "could not mark the ledger for a check at the next start");
    }
}

/// Checks the file if the last process to have it marked it.
pub(crate) async fn check_suspect(
    connection: &mut SqliteConnection,
    ledger: &Path,
) -> Result<(), OpenError> {
    let mark = beside(ledger, "suspect");
    if !mark.exists() {
        return Ok(());
    }
    tracing::warn!("the last run could not make a write durable; checking the ledger");
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await
        .map_err(|error| unreadable(ledger, error))?;
    if found != "ok" {
        return Err(OpenError::Damaged { path: ledger.display().to_string(), found });
    }
    std::fs::remove_file(&mark).map_err(|error| unreadable(&mark, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection to a new ledger in memory.
    fn ledger() -> rusqlite::Connection {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        MIGRATIONS.iter().for_each(|(_, _, text)| connection.execute_batch(text).unwrap());
        connection
    }

    /// How many tables of its own a statement builds each time that it runs.
    fn builds(connection: &rusqlite::Connection, sql: &str) -> usize {
        let mut program = connection.prepare(&format!("EXPLAIN {sql}")).unwrap();
        let steps = program.query_map([], |row| row.get::<_, String>("opcode")).unwrap();
        steps.map(Result::unwrap).filter(|step| step == "OpenEphemeral").count()
    }

    #[test]
    fn no_table_is_built_to_check_a_row_that_each_operation_or_delivery_brings() {
        let connection = ledger();
        for table in [
            "operations",
            "requests",
            "credentials",
            "ready",
            "running",
            "waiting",
            "outcomes",
            "results",
            "events",
            "idempotency_keys",
            "serial_keys",
            "tags",
            "expiries",
            "messages",
            "deliveries",
            "deliveries_due",
            "deliveries_sending",
            "deliveries_ended",
        ] {
            let insert = format!("INSERT INTO {table} DEFAULT VALUES");
            assert_eq!(builds(&connection, &insert), 0, "{table}");
        }
        let listed = "INSERT INTO nodes DEFAULT VALUES";
        assert!(builds(&connection, listed) > 0, "a list of three values builds one");
    }

    #[test]
    fn states_that_no_operation_can_have_are_refused() {
        let connection = ledger();
        let running = "INSERT INTO running (seq, lane, node, since, cancel, attempts, resumes, rescues, \
             refusals, token, sequence) VALUES (?1, 1, 1, 1, ?1, 1, 0, 0, 0, 1, 2)";
        let outcome = "INSERT INTO outcomes (seq, state, finished_at, expires_at, attempts, resumes, \
             rescues, refusals, sequence, error_code) VALUES (?1, ?2, 1, 1, 1, 0, 0, 0, 3, ?3)";
        for (cancel, fits) in [(-1, false), (0, true), (1, true), (2, true), (3, false)] {
            assert_eq!(connection.execute(running, [cancel]).is_ok(), fits, "{cancel}");
        }
        for (seq, (state, fits)) in
            [("succeeded", true), ("failed", true), ("canceled", true), ("running", false)]
                .into_iter()
                .enumerate()
        {
            let code = (state == "failed").then_some("timeout");
            let values = rusqlite::params![seq as i64, state, code];
            assert_eq!(connection.execute(outcome, values).is_ok(), fits, "{state}");
        }
    }

    #[test]
    fn a_statement_is_planned_once_whatever_is_bound() {
        let connection = ledger();
        let mut some = connection.prepare("SELECT seq FROM ready LIMIT ?").unwrap();
        for most in 1..4 {
            assert!(some.query([most]).unwrap().next().unwrap().is_none());
        }
        assert_eq!(some.get_status(rusqlite::StatementStatus::RePrepare), 0);
    }

    #[test]
    fn the_library_that_is_built_in_is_safe_and_older_ones_are_refused() {
        assert!(check_library(&sqlite_version()).is_ok());
        for version in ["3.51.2", "3.40.1", "nonsense"] {
            assert!(check_library(version).is_err(), "{version}");
        }
        assert!(check_library("3.52.0").is_ok());
    }
}
