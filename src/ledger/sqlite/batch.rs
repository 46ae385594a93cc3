//! Statements over many rows, in a few fixed sizes, and several of them in one go.
//!
//! A statement costs a hop to the connection's thread, which is dearer than what it does.
//! So a batch is one statement per table, padded with NULLs to the next fixed size so
//! that each is prepared once, and the statements that bring no rows back travel
//! together as one [`Script`], with the beginning or the end of the transaction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, Type};

use super::open::trouble;
use super::{Writer, Writing};
use crate::ledger::error::LedgerError;

/// The sizes that statements come in; a larger batch takes several of the largest. Close
/// enough to waste little on padding, and few enough for their combinations in scripts to
/// stay prepared.
const SIZES: [usize; 12] = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128];
const LARGEST: usize = SIZES[SIZES.len() - 1];

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

    /// The values, for a query.
    pub(super) fn finish(self) -> Result<SqliteArguments, LedgerError> {
        match self.refused {
            None => Ok(self.arguments),
            Some(why) => Err(LedgerError::Damaged(format!("a value cannot be stored: {why}"))),
        }
    }
}

/// A statement about a batch: something around a list that has one item a row.
pub(super) struct Statement {
    head: &'static str,
    item: Item,
    tail: &'static str,
    prepared: [OnceLock<Arc<str>>; SIZES.len()],
}

#[derive(Clone, Copy)]
enum Item {
    /// A row of that many columns to be inserted.
    Row(usize),
    /// A key among others.
    Key,
    /// Nothing: the statement is not about rows.
    Nothing,
    /// A condition of two values that one row fulfils.
    Pair(&'static str),
}

impl Item {
    const fn values(self) -> usize {
        match self {
            Self::Row(columns) => columns,
            Self::Nothing => 0,
            Self::Key => 1,
            Self::Pair(_) => 2,
        }
    }
}

impl Statement {
    const fn new(head: &'static str, item: Item, tail: &'static str) -> Self {
        Self { head, item, tail, prepared: [const { OnceLock::new() }; SIZES.len()] }
    }

    /// An INSERT; `head` is the statement up to its list of columns. The first column
    /// must be one that is never NULL: that is how padding is told apart.
    pub(super) const fn insert(head: &'static str, columns: usize) -> Self {
        Self::new(head, Item::Row(columns), "")
    }

    /// A statement about rows whose key is one of many; `head` goes up to and with IN.
    pub(super) const fn among(head: &'static str, tail: &'static str) -> Self {
        Self::new(head, Item::Key, tail)
    }

    /// A statement about rows of which each fulfils `condition` with its two values;
    /// `head` goes up to and with WHERE.
    pub(super) const fn pairs(
        head: &'static str,
        condition: &'static str,
        tail: &'static str,
    ) -> Self {
        Self::new(head, Item::Pair(condition), tail)
    }

    fn sql(&self, index: usize) -> Arc<str> {
        Arc::clone(self.prepared[index].get_or_init(|| self.text(SIZES[index]).into()))
    }

    fn text(&self, size: usize) -> String {
        let Self { head, tail, .. } = self;
        match self.item {
            Item::Row(columns) => {
                let row = format!("({})", vec!["?"; columns].join(","));
                let rows = vec![row; size].join(",");
                format!("{head} SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL")
            }
            Item::Nothing => (*head).to_owned(),
            Item::Key => format!("{head} ({}) {tail}", vec!["?"; size].join(",")),
            Item::Pair(condition) => {
                format!("{head} {} {tail}", vec![condition; size].join(" OR "))
            }
        }
    }

    /// Puts the values of one chunk and its padding; the size it was padded to.
    fn put<T>(&self, chunk: &[T], values: &mut Values, bind: &impl Fn(&T, &mut Values)) -> usize {
        let index = SIZES.iter().position(|size| *size >= chunk.len()).unwrap_or(SIZES.len() - 1);
        values.arguments.reserve(SIZES[index] * self.item.values(), 0);
        chunk.iter().for_each(|row| bind(row, values));
        for _ in 0..(SIZES[index] - chunk.len()) * self.item.values() {
            values.put(None::<i64>);
        }
        index
    }

    /// The rows that the statement brings for these, in no particular order.
    pub(super) async fn fetch<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> Result<Vec<SqliteRow>, LedgerError> {
        let mut found = Vec::with_capacity(items.len());
        for chunk in items.chunks(LARGEST) {
            let mut values = Values::default();
            let index = self.put(chunk, &mut values, &bind);
            let query =
                sqlx::query_with::<Sqlite, _>(AssertSqlSafe(self.sql(index)), values.finish()?);
            found.extend(query.fetch_all(&mut *connection).await.map_err(trouble)?);
        }
        Ok(found)
    }

    /// The same inside a writing transaction, which begins with it where it has not yet
    /// begun. Asks nothing where there is nothing to ask about.
    pub(super) async fn fetch_in<T>(
        &'static self,
        writing: &mut Writing,
        items: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> Result<Vec<SqliteRow>, LedgerError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        writing.flush().await?;
        let mut found = Vec::with_capacity(items.len());
        for chunk in items.chunks(LARGEST) {
            let mut script = Script::default();
            script.add(self, chunk, &bind);
            found.extend(script.fetch(&mut writing.writer).await?);
        }
        Ok(found)
    }

    /// The rows that the statement brings for these numbers.
    pub(super) async fn numbers_in(
        &'static self,
        writing: &mut Writing,
        keys: &[i64],
    ) -> Result<Vec<SqliteRow>, LedgerError> {
        self.fetch_in(writing, keys, put_number).await
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "it is a binding of items, which are given by reference"
)]
fn put_number(number: &i64, values: &mut Values) {
    values.put(*number);
}

/// Begins a writing transaction.
static BEGIN: Statement = Statement::new(BEGIN_SQL, Item::Nothing, "");
/// The same by itself.
pub(super) const BEGIN_SQL: &str = "BEGIN IMMEDIATE";
/// Makes it durable.
static COMMIT: Statement = Statement::new(COMMIT_SQL, Item::Nothing, "");
/// The same by itself.
pub(super) const COMMIT_SQL: &str = "COMMIT";

/// Statements that bring no rows, to be run together in their order.
#[derive(Default)]
pub(super) struct Script {
    statements: Vec<(&'static Statement, usize)>,
    values: Values,
}

/// The texts of scripts by their statements, told apart by address and size.
type Texts = Mutex<HashMap<Vec<(usize, usize)>, Arc<str>>>;
static TEXTS: OnceLock<Texts> = OnceLock::new();
/// Texts that are kept; the few combinations that really occur fit many times over.
const TEXTS_KEPT: usize = 4096;

impl Script {
    /// Adds a statement about these rows; nothing if there are none.
    pub(super) fn add<T>(
        &mut self,
        statement: &'static Statement,
        rows: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> &mut Self {
        for chunk in rows.chunks(LARGEST) {
            let index = statement.put(chunk, &mut self.values, &bind);
            self.statements.push((statement, index));
        }
        self
    }

    /// Adds a statement about these numbers.
    pub(super) fn add_numbers(&mut self, statement: &'static Statement, keys: &[i64]) -> &mut Self {
        self.add(statement, keys, put_number)
    }

    fn sql(&self) -> Arc<str> {
        let key: Vec<_> = self
            .statements
            .iter()
            .map(|(statement, index)| (std::ptr::from_ref(*statement).addr(), *index))
            .collect();
        let texts = TEXTS.get_or_init(Mutex::default);
        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() >= TEXTS_KEPT {
            texts.clear();
        }
        let join = || {
            let texts: Vec<_> =
                self.statements.iter().map(|(statement, index)| statement.sql(*index)).collect();
            texts.join(";\n").into()
        };
        Arc::clone(texts.entry(key).or_insert_with(join))
    }

    /// Whether there is nothing to run.
    pub(super) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Runs them all; the transaction begins with them where it has not yet begun.
    pub(super) async fn run(self, writer: &mut Writer) -> Result<(), LedgerError> {
        let (sql, values) = self.ready(writer)?;
        let query = sqlx::query_with::<Sqlite, _>(AssertSqlSafe(sql), values);
        query.execute(writer.connection()?).await.map(drop).map_err(trouble)
    }

    /// Runs them all, and commits.
    pub(super) async fn commit(mut self, writer: &mut Writer) -> Result<(), LedgerError> {
        self.statements.push((&COMMIT, 0));
        self.run(writer).await
    }

    /// Runs them all and brings their rows.
    async fn fetch(self, writer: &mut Writer) -> Result<Vec<SqliteRow>, LedgerError> {
        let (sql, values) = self.ready(writer)?;
        let query = sqlx::query_with::<Sqlite, _>(AssertSqlSafe(sql), values);
        query.fetch_all(writer.connection()?).await.map_err(trouble)
    }

    fn ready(mut self, writer: &mut Writer) -> Result<(Arc<str>, SqliteArguments), LedgerError> {
        if writer.begins() {
            self.statements.insert(0, (&BEGIN, 0));
        }
        Ok((self.sql(), self.values.finish()?))
    }
}
