//! Statements over many rows: each column of a batch travels as one array.
//!
//! A round trip to the server is dearer than what a statement does. So a batch is one
//! statement per table, whatever its size, and the statements that bring no rows back
//! travel together as one [`Script`]: one statement with a part for each table. Columns
//! that are mostly empty stay at home as long as they all are, and what is the same in all
//! rows travels once: that is half of the work that the server has with a batch.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Encode, Postgres, Type};

#[cfg(test)]
use crate::db::statements::{Backend, Texts};
use crate::error::LedgerError;
use crate::rows::BindRow;
use crate::webhooks::sql::Table;

/// The values of a statement, in order.
#[derive(Default)]
pub(crate) struct Values {
    arguments: PgArguments,
    refused: Option<String>,
}

impl Values {
    /// Adds the next value.
    #[must_use]
    pub(crate) fn with<'v, T: Encode<'v, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        if let Err(error) = self.arguments.add(value) {
            self.refused = Some(error.to_string());
        }
        self
    }

    /// The values, for a query.
    pub(crate) fn finish(self) -> Result<PgArguments, LedgerError> {
        match self.refused {
            None => Ok(self.arguments),
            Some(why) => Err(LedgerError::Damaged(format!("a value cannot be stored: {why}"))),
        }
    }
}

/// One column of a batch.
pub(crate) enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Octets(Vec<Option<Vec<u8>>>),
}

impl Column {
    /// A column as a letter of a statement's columns tells it.
    fn of(letter: char) -> Self {
        match letter.to_ascii_lowercase() {
            'n' | 'c' => Self::Numbers(Vec::new()),
            't' | 'w' => Self::Texts(Vec::new()),
            _ => Self::Octets(Vec::new()),
        }
    }

    /// Whether no row has a value.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.iter().all(Option::is_none),
            Self::Texts(texts) => texts.iter().all(Option::is_none),
            Self::Octets(octets) => octets.iter().all(Option::is_none),
        }
    }

    /// Whether all rows have the same value.
    pub(crate) fn is_alike(&self) -> bool {
        fn alike<T: PartialEq>(values: &[T]) -> bool {
            values.first().is_none_or(|first| values.iter().all(|value| value == first))
        }
        match self {
            Self::Numbers(numbers) => alike(numbers),
            Self::Texts(texts) => alike(texts),
            Self::Octets(octets) => alike(octets),
        }
    }

    fn bound(self, values: Values) -> Values {
        match self {
            Self::Numbers(numbers) => values.with(numbers),
            Self::Texts(texts) => values.with(texts),
            Self::Octets(octets) => values.with(octets),
        }
    }

    /// The first row's value, for all.
    fn bound_once(self, values: Values) -> Values {
        match self {
            Self::Numbers(numbers) => values.with(numbers.into_iter().next().flatten()),
            Self::Texts(texts) => values.with(texts.into_iter().next().flatten()),
            Self::Octets(octets) => values.with(octets.into_iter().next().flatten()),
        }
    }
}

/// How the server calls a value of a letter's columns.
pub(crate) const fn type_of(letter: char) -> &'static str {
    match letter.to_ascii_lowercase() {
        'n' | 'c' => "bigint",
        't' | 'w' => "text",
        _ => "bytea",
    }
}

/// How a column of a batch travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Travel {
    /// As an array with a value for each row.
    Each,
    /// As one value, which is every row's.
    Once,
    Never,
}

/// What the columns of a batch come to, as far as it decides how they travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// A column that is mostly empty has a value.
    full: bool,
    /// Those that are mostly the same in all rows are.
    alike: bool,
}

impl Form {
    fn travel(self, letter: char) -> Travel {
        match letter {
            'c' | 'w' if self.alike => Travel::Once,
            _ if self.full || letter.is_ascii_lowercase() => Travel::Each,
            _ => Travel::Never,
        }
    }
}

/// The columns of a batch, filled row by row.
pub(crate) struct Columns {
    letters: &'static str,
    filled: Vec<Column>,
    next: usize,
    misfit: bool,
}

impl Columns {
    /// Columns without rows; a letter each: n number, t text, o octets, f flag; in upper case
    /// one that is mostly empty; and c for a number, w for a text that is mostly the same in
    /// all rows.
    pub(crate) fn of(letters: &'static str) -> Self {
        let filled = letters.chars().map(Column::of).collect();
        Self { letters, filled, next: 0, misfit: false }
    }

    fn form(&self) -> Form {
        let mut columns = self.letters.chars().zip(&self.filled);
        let full = columns.any(|(letter, it)| letter.is_ascii_uppercase() && !it.is_empty());
        let mut columns = self.letters.chars().zip(&self.filled);
        let alike = columns.all(|(letter, it)| !matches!(letter, 'c' | 'w') || it.is_alike());
        Form { full, alike }
    }

    fn next(&mut self) -> Option<&mut Column> {
        let place = self.next % self.filled.len().max(1);
        self.next += 1;
        self.filled.get_mut(place)
    }

    /// Each of them.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Column> {
        self.filled.iter()
    }

    /// The columns that travel in this form, as values of a statement.
    fn bound(self, form: Form, values: Values) -> Values {
        let letters = self.letters;
        self.bound_as(letters.chars().map(|letter| form.travel(letter)), values)
    }

    /// The columns as values of a statement, each as it travels.
    pub(crate) fn bound_as(
        self,
        travels: impl Iterator<Item = Travel>,
        mut values: Values,
    ) -> Values {
        if self.misfit || !self.next.is_multiple_of(self.filled.len().max(1)) {
            values.refused = Some("a row does not fit its columns".to_owned());
        }
        self.filled.into_iter().zip(travels).fold(values, |values, (column, travel)| match travel {
            Travel::Each => column.bound(values),
            Travel::Once => column.bound_once(values),
            Travel::Never => values,
        })
    }
}

impl BindRow for Columns {
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
}

/// A text as PostgreSQL takes it: it has no NUL. Nothing that came as a field or a target
/// has one either.
pub(crate) fn storable(text: String) -> String {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    }
}

#[cfg(test)]
impl Texts for Statement {
    fn texts(&self, backend: Backend) -> Vec<String> {
        if backend == Backend::Postgres { self.alone() } else { Vec::new() }
    }
}

#[cfg(test)]
impl Texts for (&'static Table, Statement) {
    fn texts(&self, backend: Backend) -> Vec<String> {
        self.1.texts(backend)
    }
}

/// A statement about a batch: something before and after the arrays of its columns.
pub(crate) struct Statement {
    head: &'static str,
    /// Of an INSERT, the columns of its table.
    names: &'static str,
    /// A letter a column, as [`Columns::of`] takes them.
    columns: &'static str,
    tail: &'static str,
}

impl Statement {
    /// An INSERT of these columns; `head` is the statement up to the table.
    pub(crate) const fn insert(
        head: &'static str,
        names: &'static str,
        columns: &'static str,
    ) -> Self {
        Self { head, names, columns, tail: "" }
    }

    /// An INSERT into a table that both engines fill alike.
    pub(crate) const fn of(table: &Table) -> Self {
        Self { head: table.head, names: table.columns, columns: table.letters, tail: "" }
    }

    /// An INSERT that says what to do about rows that are there.
    pub(crate) const fn insert_or(
        head: &'static str,
        names: &'static str,
        columns: &'static str,
        tail: &'static str,
    ) -> Self {
        Self { head, names, columns, tail }
    }

    /// A statement that reads the rows of a batch between `head` and `tail`.
    pub(crate) const fn reading(
        head: &'static str,
        columns: &'static str,
        tail: &'static str,
    ) -> Self {
        Self { head, names: "", columns, tail }
    }

    /// A statement about rows whose number is one of many; `head` goes up to and with ANY.
    pub(crate) const fn among(head: &'static str) -> Self {
        Self { head, names: "", columns: "", tail: "" }
    }

    /// Its texts as the only one of a script.
    #[cfg(test)]
    pub(crate) fn alone(&self) -> Vec<String> {
        let form = |(full, alike)| Form { full, alike };
        let forms = [(false, false), (true, false), (false, true), (true, true)].map(form);
        let text = |form| {
            let mut sql = String::from("WITH ");
            sql.push_str("part0 AS (");
            self.write(1, form, &mut sql);
            sql + ") SELECT 1"
        };
        forms.map(text).into()
    }

    fn letters(&self) -> &'static str {
        if self.columns.is_empty() { "n" } else { self.columns }
    }

    /// Writes it with its parameters numbered from `first`; says how many there are.
    fn write(&self, first: usize, form: Form, sql: &mut String) -> usize {
        let Self { head, tail, .. } = self;
        let travels = |letter: &char| form.travel(*letter) != Travel::Never;
        let travelling = self.letters().chars().filter(travels);
        let parameter = |(number, letter)| match form.travel(letter) {
            Travel::Once => (false, format!("${number}::{}", type_of(letter))),
            _ => (true, format!("${number}::{}[]", type_of(letter))),
        };
        let parameters: Vec<_> = (first..).zip(travelling).map(parameter).collect();
        let arrays: Vec<_> =
            parameters.iter().filter(|(each, _)| *each).map(|(_, text)| text.as_str()).collect();
        let arrays = arrays.join(", ");
        let named = self.names.split(',').map(str::trim).zip(self.letters().chars());
        let names: Vec<_> =
            named.filter(|(_, letter)| travels(letter)).map(|(name, _)| name).collect();
        // A String takes everything.
        let _ = if self.columns.is_empty() {
            write!(sql, "{head} ({arrays})")
        } else if self.names.is_empty() {
            write!(sql, "{head} SELECT * FROM UNNEST({arrays}) {tail}")
        } else {
            let value = |((each, text), name): (&(bool, String), &&str)| match each {
                true => (*name).to_owned(),
                false => text.clone(),
            };
            let values: Vec<_> = parameters.iter().zip(&names).map(value).collect();
            let of_each = parameters.iter().zip(&names).filter(|((each, _), _)| *each);
            let of_each: Vec<_> = of_each.map(|(_, name)| *name).collect();
            write!(
                sql,
                "{head} ({}) SELECT {} FROM UNNEST({arrays}) AS u ({}) {tail}",
                names.join(", "),
                values.join(", "),
                of_each.join(", ")
            )
        };
        parameters.len()
    }
}

/// Statements that bring no rows, to be run together. None of them sees what another
/// one changes.
#[derive(Default)]
pub(crate) struct Script {
    parts: Vec<(&'static Statement, Columns)>,
}

/// The texts of scripts by the addresses and forms of their statements.
type TextCache = Mutex<HashMap<Vec<(usize, Form)>, Arc<str>>>;
static TEXTS: OnceLock<TextCache> = OnceLock::new();

impl Script {
    /// Adds a statement about these rows; nothing if there are none.
    pub(crate) fn add<T>(
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
    pub(crate) fn add_numbers(&mut self, statement: &'static Statement, keys: &[i64]) -> &mut Self {
        self.add(statement, keys, |key, columns| {
            columns.number(*key);
        })
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Its text and values.
    pub(crate) fn finish(self) -> Result<(Arc<str>, PgArguments), LedgerError> {
        let forms = self.forms();
        let sql = self.sql(&forms);
        let mut values = Values::default();
        for ((_, columns), form) in self.parts.into_iter().zip(forms) {
            values = columns.bound(form, values);
        }
        Ok((sql, values.finish()?))
    }

    /// The form of each part. What is the same in all rows travels once only if that is so in
    /// every part: each text is planned by the server, so there should be few.
    fn forms(&self) -> Vec<Form> {
        let forms: Vec<_> = self.parts.iter().map(|(_, columns)| columns.form()).collect();
        let alike = forms.iter().all(|form| form.alike);
        forms.into_iter().map(|form| Form { alike, ..form }).collect()
    }

    fn sql(&self, forms: &[Form]) -> Arc<str> {
        let parts = self.parts.iter().map(|(part, _)| std::ptr::from_ref(*part).addr());
        let key = parts.zip(forms.iter().copied()).collect();
        let texts = TEXTS.get_or_init(Mutex::default);
        // Each change leaves the map whole.
        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(texts.entry(key).or_insert_with(|| self.text(forms).into()))
    }

    fn text(&self, forms: &[Form]) -> String {
        let (mut sql, mut first) = (String::from("WITH "), 1);
        for (number, ((part, _), form)) in self.parts.iter().zip(forms).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            let _ = write!(sql, "{comma}part{number} AS (");
            first += part.write(first, *form, &mut sql);
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
                    SELECT seq, at FROM UNNEST($1::bigint[], $2::bigint[]) AS u (seq, at) ) SELECT 1";
        assert_eq!(text(&[None, None]), lean);
        let full = "WITH part0 AS (INSERT INTO orders (seq, note, at, by) \
                    SELECT seq, note, at, by FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::text[]) \
                    AS u (seq, note, at, by) ) SELECT 1";
        assert_eq!(text(&[None, Some("ring twice")]), full);
        assert_eq!(text(&[None, None]), lean);
    }

    static MOVES: Statement = Statement::insert("INSERT INTO moves", "seq, kind, at, by", "nwnc");

    fn moves(rows: &[(i64, &str, i64)]) -> String {
        let mut script = Script::default();
        script.add(&MOVES, rows, |(seq, kind, by), columns| {
            columns.number(*seq).text((*kind).to_owned()).number(7).number(*by);
        });
        script.finish().unwrap().0.to_string()
    }

    #[test]
    fn what_is_the_same_in_all_rows_travels_once() {
        let once = "WITH part0 AS (INSERT INTO moves (seq, kind, at, by) \
                    SELECT seq, $2::text, at, $4::bigint FROM UNNEST($1::bigint[], $3::bigint[]) AS u (seq, at) ) SELECT 1";
        assert_eq!(moves(&[(1, "in", 5), (2, "in", 5)]), once);
        let each = "WITH part0 AS (INSERT INTO moves (seq, kind, at, by) \
                    SELECT seq, kind, at, by FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) \
                    AS u (seq, kind, at, by) ) SELECT 1";
        assert_eq!(moves(&[(1, "in", 5), (2, "out", 5)]), each);
        assert_eq!(moves(&[(1, "in", 5), (2, "in", 6)]), each);
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
