//! Statements over many rows: each column of a batch travels as one array.
//!
//! A round trip to the server is dearer than what a statement does. So a batch is one
//! statement per table, whatever its size, and the statements that bring no rows back
//! travel together as one [`Script`]: one statement with a part for each table. Columns
//! that are mostly empty stay at home as long as they all are: that is half of the work
//! that the server has with a batch.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Encode, Postgres, Type};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::Cells;
use crate::ledger::webhooks::sql::Table;

/// The values of a statement, in order.
#[derive(Default)]
pub(super) struct Values {
    arguments: PgArguments,
    refused: Option<String>,
}

impl Values {
    /// Adds the next value.
    #[must_use]
    pub(super) fn with<'v, T: Encode<'v, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        if let Err(error) = self.arguments.add(value) {
            self.refused = Some(error.to_string());
        }
        self
    }

    /// The values, for a query.
    pub(super) fn finish(self) -> Result<PgArguments, LedgerError> {
        match self.refused {
            None => Ok(self.arguments),
            Some(why) => Err(LedgerError::Damaged(format!("a value cannot be stored: {why}"))),
        }
    }
}

/// One column of a batch.
enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Octets(Vec<Option<Vec<u8>>>),
    Flags(Vec<bool>),
}

impl Column {
    /// A column as a letter of a statement's columns tells it.
    fn of(letter: char) -> Self {
        match letter.to_ascii_lowercase() {
            'n' => Self::Numbers(Vec::new()),
            't' => Self::Texts(Vec::new()),
            'o' => Self::Octets(Vec::new()),
            _ => Self::Flags(Vec::new()),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.iter().all(Option::is_none),
            Self::Texts(texts) => texts.iter().all(Option::is_none),
            Self::Octets(octets) => octets.iter().all(Option::is_none),
            Self::Flags(flags) => flags.is_empty(),
        }
    }
}

/// How the server calls the arrays of a letter's columns.
const fn array_of(letter: char) -> &'static str {
    match letter.to_ascii_lowercase() {
        'n' => "bigint[]",
        't' => "text[]",
        'o' => "bytea[]",
        _ => "boolean[]",
    }
}

/// Whether a column of that letter travels: a rare one only if one of the rare ones of its
/// batch has a value.
const fn travels(letter: char, full: bool) -> bool {
    full || letter.is_ascii_lowercase()
}

/// The parameters of the columns that travel, numbered from `first`, as UNNEST takes them.
pub(super) fn parameters(letters: &str, first: usize, full: bool) -> String {
    let travelling = letters.chars().filter(|letter| travels(*letter, full));
    let typed = |(number, letter)| format!("${number}::{}", array_of(letter));
    (first..).zip(travelling).map(typed).collect::<Vec<_>>().join(", ")
}

/// The names of the columns that travel.
pub(super) fn names(names: &str, letters: &str, full: bool) -> String {
    let travelling = names.split(", ").zip(letters.chars());
    let named = travelling.filter(|(_, letter)| travels(*letter, full)).map(|(name, _)| name);
    named.collect::<Vec<_>>().join(", ")
}

/// The columns of a batch, filled row by row.
pub(super) struct Columns {
    letters: &'static str,
    filled: Vec<Column>,
    next: usize,
    misfit: bool,
}

impl Columns {
    /// Columns without rows; a letter each: n number, t text, o octets, f flag, and in
    /// upper case one that is mostly empty.
    pub(super) fn of(letters: &'static str) -> Self {
        let filled = letters.chars().map(Column::of).collect();
        Self { letters, filled, next: 0, misfit: false }
    }

    /// Whether a column that is mostly empty has a value.
    pub(super) fn is_full(&self) -> bool {
        let mut columns = self.letters.chars().zip(&self.filled);
        columns.any(|(letter, column)| letter.is_ascii_uppercase() && !column.is_empty())
    }

    fn next(&mut self) -> Option<&mut Column> {
        let place = self.next % self.filled.len().max(1);
        self.next += 1;
        self.filled.get_mut(place)
    }

    /// The columns that travel, as values of a statement.
    pub(super) fn bound(self, mut values: Values) -> Values {
        let full = self.is_full();
        if self.misfit || !self.next.is_multiple_of(self.filled.len().max(1)) {
            values.refused = Some("a row does not fit its columns".to_owned());
        }
        let letters = self.letters.chars();
        for (_, column) in letters.zip(self.filled).filter(|(letter, _)| travels(*letter, full)) {
            values = match column {
                Column::Numbers(values_of) => values.with(values_of),
                Column::Texts(values_of) => values.with(values_of),
                Column::Octets(values_of) => values.with(values_of),
                Column::Flags(values_of) => values.with(values_of),
            };
        }
        values
    }
}

impl Cells for Columns {
    fn number(&mut self, value: impl Into<Option<i64>>) -> &mut Self {
        match self.next() {
            Some(Column::Numbers(numbers)) => numbers.push(value.into()),
            _ => self.misfit = true,
        }
        self
    }

    fn text(&mut self, value: impl Into<Option<String>>) -> &mut Self {
        match self.next() {
            Some(Column::Texts(texts)) => texts.push(value.into().map(storable)),
            _ => self.misfit = true,
        }
        self
    }

    fn octets(&mut self, value: impl Into<Option<Vec<u8>>>) -> &mut Self {
        match self.next() {
            Some(Column::Octets(octets)) => octets.push(value.into()),
            _ => self.misfit = true,
        }
        self
    }

    fn flag(&mut self, value: bool) -> &mut Self {
        match self.next() {
            Some(Column::Flags(flags)) => flags.push(value),
            _ => self.misfit = true,
        }
        self
    }
}

/// A text as PostgreSQL takes it: it has no NUL. Nothing that came as a field or a target
/// has one either.
pub(in crate::ledger) fn storable(text: String) -> String {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    }
}

/// A statement about a batch: something before and after the arrays of its columns.
pub(super) struct Statement {
    head: &'static str,
    /// Of an INSERT, the columns of its table.
    names: &'static str,
    /// A letter a column, as [`Columns::of`] takes them.
    columns: &'static str,
    tail: &'static str,
}

impl Statement {
    /// An INSERT of these columns; `head` is the statement up to the table.
    pub(super) const fn insert(
        head: &'static str,
        names: &'static str,
        columns: &'static str,
    ) -> Self {
        Self { head, names, columns, tail: "" }
    }

    /// An INSERT into a table that both engines fill alike.
    pub(super) const fn of(table: &Table) -> Self {
        Self { head: table.head, names: table.columns, columns: table.letters, tail: "" }
    }

    /// An INSERT that says what to do about rows that are there.
    pub(super) const fn insert_or(
        head: &'static str,
        names: &'static str,
        columns: &'static str,
        tail: &'static str,
    ) -> Self {
        Self { head, names, columns, tail }
    }

    /// A statement that reads the rows of a batch between `head` and `tail`.
    pub(super) const fn reading(
        head: &'static str,
        columns: &'static str,
        tail: &'static str,
    ) -> Self {
        Self { head, names: "", columns, tail }
    }

    /// A statement about rows whose number is one of many; `head` goes up to and with ANY.
    pub(super) const fn among(head: &'static str) -> Self {
        Self { head, names: "", columns: "", tail: "" }
    }

    /// Its text as the only one of a script.
    #[cfg(test)]
    pub(super) fn alone(&self, full: bool) -> String {
        let mut sql = String::from("WITH ");
        sql.push_str("part0 AS (");
        self.write(1, full, &mut sql);
        sql + ") SELECT 1"
    }

    fn letters(&self) -> &'static str {
        if self.columns.is_empty() { "n" } else { self.columns }
    }

    /// Writes it with its parameters numbered from `first`; says how many there are.
    fn write(&self, first: usize, full: bool, sql: &mut String) -> usize {
        let Self { head, tail, .. } = self;
        let letters = self.letters();
        let arrays = parameters(letters, first, full);
        let names = names(self.names, letters, full);
        // A String takes everything.
        let _ = match (self.columns.is_empty(), names.is_empty()) {
            (true, _) => write!(sql, "{head} ({arrays})"),
            (false, true) => write!(sql, "{head} SELECT * FROM UNNEST({arrays}) {tail}"),
            (false, false) => {
                write!(sql, "{head} ({names}) SELECT * FROM UNNEST({arrays}) {tail}")
            }
        };
        letters.chars().filter(|letter| travels(*letter, full)).count()
    }
}

/// Statements that bring no rows, to be run together. None of them sees what another
/// one changes.
#[derive(Default)]
pub(super) struct Script {
    parts: Vec<(&'static Statement, Columns)>,
}

/// The texts of scripts by the addresses of their statements, and whether the columns that
/// are mostly empty travel.
type Texts = Mutex<HashMap<Vec<(usize, bool)>, Arc<str>>>;
static TEXTS: OnceLock<Texts> = OnceLock::new();

impl Script {
    /// Adds a statement about these rows; nothing if there are none.
    pub(super) fn add<T>(
        &mut self,
        statement: &'static Statement,
        rows: &[T],
        bind: impl Fn(&T, &mut Columns),
    ) -> &mut Self {
        if rows.is_empty() {
            return self;
        }
        let known = self.parts.iter().position(|(part, _)| std::ptr::eq(*part, statement));
        let place = known.unwrap_or_else(|| {
            self.parts.push((statement, Columns::of(statement.letters())));
            self.parts.len() - 1
        });
        if let Some((_, columns)) = self.parts.get_mut(place) {
            rows.iter().for_each(|row| bind(row, columns));
        }
        self
    }

    /// Adds a statement about these numbers.
    pub(super) fn add_numbers(&mut self, statement: &'static Statement, keys: &[i64]) -> &mut Self {
        self.add(statement, keys, |key, columns| {
            columns.number(*key);
        })
    }

    /// Whether there is nothing to run.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Its text and values.
    pub(super) fn finish(self) -> Result<(Arc<str>, PgArguments), LedgerError> {
        let sql = self.sql();
        let mut values = Values::default();
        for (_, columns) in self.parts {
            values = columns.bound(values);
        }
        Ok((sql, values.finish()?))
    }

    fn sql(&self) -> Arc<str> {
        let name = |(part, columns): &(&'static Statement, Columns)| {
            (std::ptr::from_ref(*part).addr(), columns.is_full())
        };
        let key = self.parts.iter().map(name).collect();
        let texts = TEXTS.get_or_init(Mutex::default);
        // Each change leaves the map whole.
        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(texts.entry(key).or_insert_with(|| self.text().into()))
    }

    fn text(&self) -> String {
        let (mut sql, mut first) = (String::from("WITH "), 1);
        for (number, (part, columns)) in self.parts.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            let _ = write!(sql, "{comma}part{number} AS (");
            first += part.write(first, columns.is_full(), &mut sql);
            sql.push(')');
        }
        sql.push_str(" SELECT 1");
        sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ORDERS: Statement = Statement::insert("INSERT INTO orders", "seq, note, at, by", "nTnT");

    fn text(notes: &[Option<&str>]) -> String {
        let mut script = Script::default();
        script.add(&ORDERS, notes, |note, columns| {
            columns.number(1).text(note.map(str::to_owned)).number(2).text(None);
        });
        script.finish().unwrap().0.to_string()
    }

    #[test]
    fn columns_that_are_mostly_empty_travel_only_if_one_of_them_has_a_value() {
        let lean = "WITH part0 AS (INSERT INTO orders (seq, at) \
                    SELECT * FROM UNNEST($1::bigint[], $2::bigint[]) ) SELECT 1";
        assert_eq!(text(&[None, None]), lean);
        let full = "WITH part0 AS (INSERT INTO orders (seq, note, at, by) \
                    SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::text[]) ) SELECT 1";
        assert_eq!(text(&[None, Some("ring twice")]), full);
        assert_eq!(text(&[None, None]), lean);
    }

    #[test]
    fn a_row_that_does_not_fit_its_columns_is_refused() {
        let mut script = Script::default();
        script.add(&ORDERS, &[()], |(), columns| {
            columns.number(1).number(2);
        });
        assert!(script.finish().is_err());
    }
}
