//! The one connection that writes, and its transaction.
//!
//! Owns how statements reach the library: on the thread that asks, which is the
//! committer's own and has nothing else to do meanwhile, so a statement costs what it does
//! and no hop to another thread. Its invariant: nothing is written outside a transaction,
//! and a transaction that was left is undone before the next begins.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OpenFlags, ToSql};

use crate::db::sqlite::open::native_trouble as trouble;
use crate::db::sqlite::rows::{BindRow, ReadRow, damaged};
use crate::error::LedgerError;
use crate::webhooks::sql::{IdSequence, PendingEvent};

/// Statements that are kept prepared: all of them.
const PREPARED: usize = 128;
/// How long it is waited for a lock; only a backup or a person's shell can hold one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the log is not cut because of readers: writes wait meanwhile.
const PATIENCE_WITH_READERS: Duration = Duration::from_millis(50);

/// The writing connection and what its transactions hand on.
pub(crate) struct Writer {
    /// None once the ledger is closed.
    connection: Option<Connection>,
    /// A transaction was begun, or is about to be, and not committed.
    open: bool,
    /// The next operation's place in the order accepted.
    pub(crate) next_seq: i64,
    /// The next message's and the next delivery's number, once they are known.
    pub(crate) next: HashMap<IdSequence, i64>,
    /// Events of this transaction that a receiver may have to be told of.
    pub(crate) told: Vec<PendingEvent>,
}

impl Writer {
    /// Opens the file, which has its schema; each of `pragmas` is a name and a value.
    pub(crate) fn open(
        path: &Path,
        pragmas: &[(&str, &str)],
        next_seq: i64,
    ) -> Result<Self, LedgerError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(trouble)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection.busy_timeout(PATIENCE).map_err(trouble)?;
        for (name, value) in pragmas {
            connection.pragma_update(None, name, value).map_err(trouble)?;
        }
        Ok(Self {
            connection: Some(connection),
            open: false,
            next_seq,
            next: HashMap::new(),
            told: Vec::new(),
        })
    }

    /// Undoes what was begun and not committed.
    pub(crate) fn undo(&mut self) -> Result<(), LedgerError> {
        self.told.clear();
        self.next.clear();
        let was_open = std::mem::take(&mut self.open);
        let connection = self.connection()?;
        // SQLite may have undone it by itself; then there is nothing to undo.
        if was_open && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").map_err(trouble)?;
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub(crate) fn commit(&mut self) -> Result<(), LedgerError> {
        if self.open {
            self.prepared("COMMIT")?.raw_execute().map_err(trouble)?;
            self.open = false;
        }
        Ok(())
    }

    /// Writes the log back into the file and cuts it, so that nothing erased is left in
    /// it, and lets go.
    pub(crate) fn close(&mut self) -> Result<(), LedgerError> {
        self.undo()?;
        let Some(connection) = self.connection.take() else { return Ok(()) };
        connection.pragma(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).map_err(trouble)?;
        connection.close().map_err(|(_, error)| trouble(error))
    }

    /// Writes the log back into the file and cuts it, so that nothing erased is left in it;
    /// false where a reader was in the way.
    pub(crate) fn cut_log(&mut self) -> Result<bool, LedgerError> {
        self.undo()?;
        let connection = self.connection()?;
        connection.busy_timeout(PATIENCE_WITH_READERS).map_err(trouble)?;
        let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        connection.busy_timeout(PATIENCE).map_err(trouble)?;
        cut.map(|busy: i64| busy == 0).map_err(trouble)
    }

    /// Has the log written back whenever it has so many pages.
    pub(crate) fn write_back_after(&mut self, pages: u32) -> Result<(), LedgerError> {
        let connection = self.connection()?;
        connection.pragma_update(None, "wal_autocheckpoint", pages).map_err(trouble)
    }

    /// Octets of the file's pages that nothing is stored in.
    pub(crate) fn unused_octets(&mut self) -> Result<u64, LedgerError> {
        let connection = self.connection()?;
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = pragma("freelist_count").map_err(trouble)?;
        let octets = pragma("page_size").map_err(trouble)?;
        Ok(pages.unsigned_abs() * octets.unsigned_abs())
    }

    /// Runs a statement once for each row; how many rows that changed.
    pub(crate) fn each<T>(
        &mut self,
        sql: &'static str,
        rows: &[T],
        bind: impl Fn(&T, &mut Values<'_, '_>),
    ) -> Result<usize, LedgerError> {
        Ok(self.changes(sql, rows, bind)?.into_iter().sum())
    }

    /// The same; how many rows that changed for each of these.
    pub(crate) fn changes<T>(
        &mut self,
        sql: &'static str,
        rows: &[T],
        bind: impl Fn(&T, &mut Values<'_, '_>),
    ) -> Result<Vec<usize>, LedgerError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = self.inside(sql)?;
        let mut run = |row| {
            Values::fill(&mut statement, |values| bind(row, values))?;
            statement.raw_execute().map_err(trouble)
        };
        rows.iter().map(&mut run).collect()
    }

    /// Runs a statement once; how many rows that changed.
    pub(crate) fn run(
        &mut self,
        sql: &'static str,
        bind: impl Fn(&mut Values<'_, '_>),
    ) -> Result<usize, LedgerError> {
        self.each(sql, &[()], |(), values| bind(values))
    }

    /// The rows that a statement brings for each of these, one after the other.
    pub(crate) fn all_of_each<T>(
        &mut self,
        sql: &'static str,
        items: &[T],
        bind: impl Fn(&T, &mut Values<'_, '_>),
    ) -> Result<Vec<Row>, LedgerError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = self.inside(sql)?;
        let columns: Arc<[String]> =
            statement.column_names().into_iter().map(str::to_owned).collect();
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            Values::fill(&mut statement, |values| bind(item, values))?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().map_err(trouble)? {
                let value = |index| row.get::<_, Value>(index).map_err(trouble);
                let values = (0..columns.len()).map(value).collect::<Result<_, _>>()?;
                found.push(Row { columns: Arc::clone(&columns), values });
            }
        }
        Ok(found)
    }

    /// The rows that a statement brings.
    pub(crate) fn all(
        &mut self,
        sql: &'static str,
        bind: impl Fn(&mut Values<'_, '_>),
    ) -> Result<Vec<Row>, LedgerError> {
        self.all_of_each(sql, &[()], |(), values| bind(values))
    }

    /// The only row that a statement brings, if any.
    pub(crate) fn one(
        &mut self,
        sql: &'static str,
        bind: impl Fn(&mut Values<'_, '_>),
    ) -> Result<Option<Row>, LedgerError> {
        Ok(self.all(sql, bind)?.into_iter().next())
    }

    /// A statement inside the transaction, which begins with it where it has not yet begun.
    fn inside(&mut self, sql: &'static str) -> Result<CachedStatement<'_>, LedgerError> {
        if !std::mem::replace(&mut self.open, true) {
            self.prepared("BEGIN IMMEDIATE")?.raw_execute().map_err(trouble)?;
        }
        self.prepared(sql)
    }

    fn prepared(&mut self, sql: &'static str) -> Result<CachedStatement<'_>, LedgerError> {
        self.connection()?.prepare_cached(sql).map_err(trouble)
    }

    fn connection(&mut self) -> Result<&mut Connection, LedgerError> {
        let closed = || LedgerError::Unavailable("the ledger is closed".to_owned());
        self.connection.as_mut().ok_or_else(closed)
    }
}

/// Takes the values of a statement in, in their order.
pub(crate) struct Values<'s, 'c> {
    statement: &'s mut CachedStatement<'c>,
    count: usize,
    refused: Option<rusqlite::Error>,
}

impl<'s, 'c> Values<'s, 'c> {
    fn fill(
        statement: &'s mut CachedStatement<'c>,
        bind: impl FnOnce(&mut Self),
    ) -> Result<(), LedgerError> {
        let mut values = Self { statement, count: 0, refused: None };
        bind(&mut values);
        match values.refused {
            None if values.count == values.statement.parameter_count() => Ok(()),
            None => Err(damaged("a statement got too few values")),
            Some(error) => Err(damaged(format!("a value cannot be stored: {error}"))),
        }
    }

    /// Adds the next value.
    pub(crate) fn put(&mut self, value: impl ToSql) -> &mut Self {
        self.count += 1;
        if let Err(error) = self.statement.raw_bind_parameter(self.count, value) {
            self.refused = Some(error);
        }
        self
    }
}

impl BindRow for Values<'_, '_> {
    fn number(&mut self, value: impl Into<Option<i64>>) -> &mut Self {
        self.put(value.into())
    }

    fn text(&mut self, value: impl Into<Option<String>>) -> &mut Self {
        self.put(value.into())
    }

    fn octets(&mut self, value: impl Into<Option<Vec<u8>>>) -> &mut Self {
        self.put(value.into())
    }
}

/// A row that was read inside a transaction.
#[derive(Debug)]
pub(crate) struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    fn value(&self, column: &str) -> Result<&Value, LedgerError> {
        let index = self.columns.iter().position(|name| name == column);
        let value = index.and_then(|index| self.values.get(index));
        value.ok_or_else(|| damaged(format!("there is no column {column}")))
    }

    fn other(column: &str, value: &Value) -> LedgerError {
        damaged(format!("{column} is of type {}", value.data_type()))
    }
}

impl ReadRow for Row {
    fn number(&self, column: &str) -> Result<Option<i64>, LedgerError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Integer(number) => Ok(Some(*number)),
            other => Err(Self::other(column, other)),
        }
    }

    fn text(&self, column: &str) -> Result<Option<&str>, LedgerError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            other => Err(Self::other(column, other)),
        }
    }

    fn octets(&self, column: &str) -> Result<Option<&[u8]>, LedgerError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Blob(octets) => Ok(Some(octets)),
            other => Err(Self::other(column, other)),
        }
    }

    fn flag(&self, column: &str) -> Result<bool, LedgerError> {
        Ok(ReadRow::number(self, column)?.is_some_and(|number| number != 0))
    }
}
