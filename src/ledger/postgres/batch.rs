//! Statements over many rows: each column of a batch travels as one array.
//!
//! A round trip to the server is dearer than what a statement does. So a batch is one
//! statement per table, whatever its size, and the statements that bring no rows back
//! travel together as one [`Script`]: one statement with a part for each table.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Encode, Postgres, Type};

use crate::ledger::error::LedgerError;
use crate::ledger::rows::Cells;

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
        match letter {
            'n' => Self::Numbers(Vec::new()),
            't' => Self::Texts(Vec::new()),
            'o' => Self::Octets(Vec::new()),
            _ => Self::Flags(Vec::new()),
        }
    }

    /// How the server calls its type.
    const fn array(letter: char) -> &'static str {
        match letter {
            'n' => "bigint[]",
            't' => "text[]",
            'o' => "bytea[]",
            _ => "boolean[]",
        }
    }
}

/// The columns of a batch, filled row by row.
pub(super) struct Columns {
    filled: Vec<Column>,
    next: usize,
    misfit: bool,
}

impl Columns {
    fn of(letters: &str) -> Self {
        Self { filled: letters.chars().map(Column::of).collect(), next: 0, misfit: false }
    }

    fn next(&mut self) -> Option<&mut Column> {
        let place = self.next % self.filled.len().max(1);
        self.next += 1;
        self.filled.get_mut(place)
    }

    fn bound(self, mut values: Values) -> Values {
        if self.misfit || !self.next.is_multiple_of(self.filled.len().max(1)) {
            values.refused = Some("a row does not fit its columns".to_owned());
        }
        for column in self.filled {
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
    /// A letter a column: n number, t text, o octets, f flag.
    columns: &'static str,
    tail: &'static str,
}

impl Statement {
    /// An INSERT; `head` is the statement up to its list of columns.
    pub(super) const fn insert(head: &'static str, columns: &'static str) -> Self {
        Self { head, columns, tail: "" }
    }

    /// An INSERT that says what to do about rows that are there.
    pub(super) const fn insert_or(
        head: &'static str,
        columns: &'static str,
        tail: &'static str,
    ) -> Self {
        Self { head, columns, tail }
    }

    /// A statement about rows whose number is one of many; `head` goes up to and with ANY.
    pub(super) const fn among(head: &'static str) -> Self {
        Self { head, columns: "", tail: "" }
    }

    fn letters(&self) -> &'static str {
        if self.columns.is_empty() { "n" } else { self.columns }
    }

    /// Writes it with its parameters numbered from `first`.
    fn write(&self, first: usize, sql: &mut String) {
        let parameters: Vec<_> = (first..)
            .zip(self.letters().chars())
            .map(|(number, letter)| format!("${number}::{}", Column::array(letter)))
            .collect();
        let parameters = parameters.join(", ");
        // A String takes everything.
        let _ = match self.columns.is_empty() {
            true => write!(sql, "{} ({parameters})", self.head),
            false => {
                write!(sql, "{} SELECT * FROM UNNEST({parameters}) {}", self.head, self.tail)
            }
        };
    }
}

/// Statements that bring no rows, to be run together. None of them sees what another
/// one changes.
#[derive(Default)]
pub(super) struct Script {
    parts: Vec<(&'static Statement, Columns)>,
}

/// The texts of scripts by the addresses of their statements.
type Texts = Mutex<HashMap<Vec<usize>, Arc<str>>>;
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
        let key = self.parts.iter().map(|(part, _)| std::ptr::from_ref(*part).addr()).collect();
        let texts = TEXTS.get_or_init(Mutex::default);
        // Each change leaves the map whole.
        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(texts.entry(key).or_insert_with(|| self.text().into()))
    }

    fn text(&self) -> String {
        let (mut sql, mut first) = (String::from("WITH "), 1);
        for (number, (part, _)) in self.parts.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            let _ = write!(sql, "{comma}part{number} AS (");
            part.write(first, &mut sql);
            sql.push(')');
            first += part.letters().len();
        }
        sql.push_str(" SELECT 1");
        sql
    }
}
