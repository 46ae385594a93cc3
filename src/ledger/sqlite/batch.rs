//! Statements over many rows, in a few fixed sizes, so that each is prepared once.
//!
//! A statement costs a hop to the connection's thread; one per batch instead of one per
//! row is what makes the group commit worth its name.

use std::sync::{Arc, OnceLock};

use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, Type};

use super::open::trouble;
use crate::ledger::error::LedgerError;

/// The sizes that statements come in; any batch is a sum of them.
const SIZES: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

type Prepared = [OnceLock<Arc<str>>; SIZES.len()];

const UNPREPARED: Prepared = [const { OnceLock::new() }; SIZES.len()];

/// The values of a statement, in order.
#[derive(Default)]
pub(super) struct Values {
    arguments: SqliteArguments,
    refused: Option<String>,
}

impl Values {
    /// Adds the next value.
    pub(super) fn put<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.refused = Some(error.to_string());
        }
        self
    }

    pub(super) fn finish(self) -> Result<SqliteArguments, LedgerError> {
        match self.refused {
            None => Ok(self.arguments),
            Some(why) => Err(LedgerError::Damaged(format!("a value cannot be stored: {why}"))),
        }
    }
}

/// An INSERT of rows.
pub(super) struct Insert {
    head: &'static str,
    columns: usize,
    prepared: Prepared,
}

impl Insert {
    /// `head` is the statement up to and with VALUES.
    pub(super) const fn new(head: &'static str, columns: usize) -> Self {
        Self { head, columns, prepared: UNPREPARED }
    }

    fn sql(&self, index: usize) -> Arc<str> {
        let make = || {
            let row = format!("({})", vec!["?"; self.columns].join(","));
            format!("{} {}", self.head, vec![row; SIZES[index]].join(",")).into()
        };
        Arc::clone(self.prepared[index].get_or_init(make))
    }

    /// Inserts the rows, as `bind` puts their values.
    pub(super) async fn rows<T>(
        &self,
        connection: &mut SqliteConnection,
        mut rows: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> Result<(), LedgerError> {
        for (index, size) in SIZES.into_iter().enumerate() {
            while rows.len() >= size {
                let (these, rest) = rows.split_at(size);
                let mut values = Values::default();
                values.arguments.reserve(size * self.columns, 0);
                these.iter().for_each(|row| bind(row, &mut values));
                let sql = AssertSqlSafe(self.sql(index));
                let query = sqlx::query_with::<Sqlite, _>(sql, values.finish()?);
                query.execute(&mut *connection).await.map_err(trouble)?;
                rows = rest;
            }
        }
        Ok(())
    }
}

/// A statement about the rows whose key is one of many.
pub(super) struct Among {
    head: &'static str,
    tail: &'static str,
    prepared: Prepared,
}

impl Among {
    /// `head` is the statement up to and with `IN`, `tail` what follows the list.
    pub(super) const fn new(head: &'static str, tail: &'static str) -> Self {
        Self { head, tail, prepared: UNPREPARED }
    }

    fn sql(&self, index: usize) -> Arc<str> {
        let make = || {
            let list = vec!["?"; SIZES[index]].join(",");
            format!("{} ({list}) {}", self.head, self.tail).into()
        };
        Arc::clone(self.prepared[index].get_or_init(make))
    }

    /// The rows that the statement brings for these keys, in no particular order.
    /// `last` puts values for parameters in the tail.
    pub(super) async fn fetch<T>(
        &self,
        connection: &mut SqliteConnection,
        mut keys: &[T],
        bind: impl Fn(&T, &mut Values),
        last: impl Fn(&mut Values),
    ) -> Result<Vec<SqliteRow>, LedgerError> {
        let mut found = Vec::with_capacity(keys.len());
        for (index, size) in SIZES.into_iter().enumerate() {
            while keys.len() >= size {
                let (these, rest) = keys.split_at(size);
                let mut values = Values::default();
                these.iter().for_each(|key| bind(key, &mut values));
                last(&mut values);
                let sql = AssertSqlSafe(self.sql(index));
                let query = sqlx::query_with::<Sqlite, _>(sql, values.finish()?);
                found.extend(query.fetch_all(&mut *connection).await.map_err(trouble)?);
                keys = rest;
            }
        }
        Ok(found)
    }

    /// Runs the statement for these numbers.
    pub(super) async fn numbers(
        &self,
        connection: &mut SqliteConnection,
        keys: &[i64],
    ) -> Result<Vec<SqliteRow>, LedgerError> {
        self.fetch(
            connection,
            keys,
            |key, values| {
                values.put(*key);
            },
            |_| (),
        )
        .await
    }
}
