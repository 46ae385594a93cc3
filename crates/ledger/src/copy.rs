//! The copy of a ledger from a file into a database, with every gateway stopped.
//!
//! Owns what is copied: every table with every column, whatever a release has added to
//! them, so that ids, tickets, keys, tokens and all that is pending go on. Its invariant:
//! it is one transaction, so the target has all of it or nothing; and no process writes to
//! the source meanwhile, because its lock is held.

use std::path::Path;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Connection, Postgres, Row};

use crate::db::{postgres, sqlite};
use crate::error::OpenError;
use crate::open::Server;

/// About how many octets and how many rows go in one statement.
const OCTETS: usize = 4 * 1024 * 1024;
const ROWS: usize = 1000;
/// What a start writes into a new ledger, which makes way for what is copied.
const OF_A_START: [&str; 4] = ["ledger", "lanes", "nodes", "webhooks"];

/// A ledger could not be moved. The target is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two cannot be opened, or is in use.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is nothing to copy.
    #[error("there is no ledger {0}: say where it is with --from")]
    NoSource(String),
    /// Something would be overwritten.
    #[error(
        "the target is not empty ({table} has rows): copy into a new database, or drop that one \
         first"
    )]
    NotEmpty {
        /// A table that has rows.
        table: String,
    },
    /// A gateway works on the target.
    #[error("{0} gateway(s) are connected to the target: stop them first")]
    TargetInUse(i64),
    /// The target got other rows than the source has.
    #[error("{table}: {read} rows were read and {written} are there; nothing was copied")]
    Miscounted {
        /// The table.
        table: String,
        /// How many the source has.
        read: i64,
        /// How many the target would have.
        written: i64,
    },
    /// One of the two databases refused.
    #[error("the copy broke off, and nothing was copied: {0}")]
    Broken(#[from] sqlx::Error),
    /// A value of the source cannot be written to the target.
    #[error("a value cannot be copied, and nothing was: {0}")]
    Unfit(String),
}

/// How a column's values are carried over.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Octets,
    Flag,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "bigint" => Some(Self::Number),
            "text" => Some(Self::Text),
            "bytea" => Some(Self::Octets),
            "boolean" => Some(Self::Flag),
            _ => None,
        }
    }

    const fn array(self) -> &'static str {
        match self {
            Self::Number => "bigint[]",
            Self::Text => "text[]",
            Self::Octets => "bytea[]",
            Self::Flag => "boolean[]",
        }
    }
}

/// Copies the ledger in a file into a database that has none. `tell` hears of each table
/// and how many of its rows are copied so far. Returns how many rows each table has.
pub async fn copy_ledger(
    from: &Path,
    to: &Server,
    mut tell: impl FnMut(&str, u64),
) -> Result<Vec<(String, u64)>, CopyError> {
    if !from.exists() {
        return Err(CopyError::NoSource(from.display().to_string()));
    }
    let (lock, mut source) = sqlite::source(from).await?;
    let mut target = postgres::target(to).await?;
    let mut transaction = target.begin().await?;
    sqlx::raw_sql("SET LOCAL statement_timeout = 0").execute(&mut *transaction).await?;
    check_target(&mut transaction).await?;
    let mut counts = Vec::new();
    for table in tables(&mut transaction).await? {
        let count = table_of(&mut source, &mut transaction, &table, &mut tell).await?;
        counts.push((table, count));
    }
    let moved = "UPDATE nodes SET name = $1";
    sqlx::query(moved).bind(postgres::MOVED).execute(&mut *transaction).await?;
    sqlx::query(crate::operations::read::lanes::postgres::FIRST_COUNT)
        .execute(&mut *transaction)
        .await?;
    go_on_counting(&mut transaction).await?;
    transaction.commit().await?;
    target.close().await?;
    source.close().await?;
    drop(lock);
    Ok(counts)
}

/// Refuses a target that is in use or that has something in it.
async fn check_target(target: &mut PgConnection) -> Result<(), CopyError> {
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name LIKE 'cloakroom node %'";
    let connected: i64 = sqlx::query_scalar(connected).fetch_one(&mut *target).await?;
    if connected > 0 {
        return Err(CopyError::TargetInUse(connected));
    }
    for table in tables(target).await? {
        if OF_A_START.contains(&&*table) {
            continue;
        }
        let exists = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {table})"));
        if sqlx::query_scalar(exists).fetch_one(&mut *target).await? {
            return Err(CopyError::NotEmpty { table });
        }
    }
    for table in OF_A_START {
        let gone = AssertSqlSafe(format!("DELETE FROM {table}"));
        sqlx::query(gone).execute(&mut *target).await?;
    }
    Ok(())
}

async fn tables(target: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let all = "SELECT table_name::text FROM information_schema.tables WHERE table_type = 'BASE TABLE' \
               AND table_schema = current_schema() AND table_name <> '_sqlx_migrations' ORDER BY 1";
    sqlx::query_scalar(all).fetch_all(target).await
}

async fn columns(target: &mut PgConnection, table: &str) -> Result<Vec<(String, Kind)>, CopyError> {
    let all = "SELECT column_name::text, data_type::text FROM information_schema.columns \
               WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position";
    let rows: Vec<(String, String)> = sqlx::query_as(all).bind(table).fetch_all(target).await?;
    let known = |(name, kind): (String, String)| match Kind::named(&kind) {
        Some(known) => Ok((name, known)),
        None => Err(CopyError::Unfit(format!("{table}.{name} is of type {kind}"))),
    };
    rows.into_iter().map(known).collect()
}

/// Copies one table; how many rows it has.
async fn table_of(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
    table: &str,
    tell: &mut impl FnMut(&str, u64),
) -> Result<u64, CopyError> {
    let columns = columns(target, table).await?;
    let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    let arrays: Vec<_> = (1..)
        .zip(&columns)
        .map(|(number, (_, kind))| format!("${number}::{}", kind.array()))
        .collect();
    let arrays = arrays.join(", ");
    let insert = format!("INSERT INTO {table} ({names}) SELECT * FROM UNNEST({arrays})");
    let kinds: Vec<_> = columns.iter().map(|(_, kind)| *kind).collect();
    let (mut batch, mut read) = (Batch::of(&kinds), 0_i64);
    let all = AssertSqlSafe(format!("SELECT {names} FROM {table}"));
    let mut rows = sqlx::query(all).fetch(source);
    while let Some(row) = rows.try_next().await? {
        batch.push(&row)?;
        read += 1;
        if batch.is_full() {
            batch.write(target, &insert).await?;
            batch = Batch::of(&kinds);
            tell(table, read.unsigned_abs());
        }
    }
    drop(rows);
    batch.write(target, &insert).await?;
    let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    let written: i64 = sqlx::query_scalar(count).fetch_one(target).await?;
    if written != read {
        return Err(CopyError::Miscounted { table: table.to_owned(), read, written });
    }
    tell(table, read.unsigned_abs());
    Ok(read.unsigned_abs())
}

/// The values of one column.
enum Column {
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Octets(Vec<Option<Vec<u8>>>),
    Flags(Vec<Option<bool>>),
}

/// Rows on their way.
struct Batch {
    columns: Vec<Column>,
    rows: usize,
    octets: usize,
}

impl Batch {
    fn of(kinds: &[Kind]) -> Self {
        let column = |kind: &Kind| match kind {
            Kind::Number => Column::Numbers(Vec::new()),
            Kind::Text => Column::Texts(Vec::new()),
            Kind::Octets => Column::Octets(Vec::new()),
            Kind::Flag => Column::Flags(Vec::new()),
        };
        Self { columns: kinds.iter().map(column).collect(), rows: 0, octets: 0 }
    }

    fn push(&mut self, row: &SqliteRow) -> Result<(), CopyError> {
        for (place, column) in self.columns.iter_mut().enumerate() {
            match column {
                Column::Numbers(values) => values.push(row.try_get(place)?),
                Column::Texts(values) => {
                    let text: Option<String> = row.try_get(place)?;
                    self.octets += text.as_ref().map_or(0, String::len);
                    values.push(text.map(postgres::storable));
                }
                Column::Octets(values) => {
                    let octets: Option<Vec<u8>> = row.try_get(place)?;
                    self.octets += octets.as_ref().map_or(0, Vec::len);
                    values.push(octets);
                }
                Column::Flags(values) => values.push(row.try_get(place)?),
            }
        }
        self.rows += 1;
        Ok(())
    }

    const fn is_full(&self) -> bool {
        self.rows >= ROWS || self.octets >= OCTETS
    }

    async fn write(self, target: &mut PgConnection, insert: &str) -> Result<(), CopyError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut arguments = PgArguments::default();
        for column in self.columns {
            let added = match column {
                Column::Numbers(values) => arguments.add(values),
                Column::Texts(values) => arguments.add(values),
                Column::Octets(values) => arguments.add(values),
                Column::Flags(values) => arguments.add(values),
            };
            added.map_err(|error| CopyError::Unfit(error.to_string()))?;
        }
        let insert = AssertSqlSafe(insert.to_owned());
        sqlx::query_with::<Postgres, _>(insert, arguments).execute(target).await?;
        Ok(())
    }
}

/// What the target hands out next comes behind what was copied.
async fn go_on_counting(target: &mut PgConnection) -> Result<(), CopyError> {
    for (sequence, table, column, last) in [
        ("operations_order", "operations", "seq", "last_operation"),
        ("messages_order", "messages", "message", "last_message"),
        ("deliveries_order", "deliveries", "delivery", "last_delivery"),
    ] {
        let next = format!(
            "SELECT setval('{sequence}', (SELECT 1 + greatest({last}, \
             (SELECT coalesce(max({column}), 0) FROM {table})) FROM ledger), false)"
        );
        sqlx::query(AssertSqlSafe(next)).execute(&mut *target).await?;
    }
    let identities = "SELECT table_name::text, column_name::text FROM information_schema.columns \
                      WHERE table_schema = current_schema() AND is_identity = 'YES'";
    let identities: Vec<(String, String)> =
        sqlx::query_as(identities).fetch_all(&mut *target).await?;
    for (table, column) in identities {
        let next = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), \
             (SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)"
        );
        sqlx::query(AssertSqlSafe(next)).execute(&mut *target).await?;
    }
    Ok(())
}
