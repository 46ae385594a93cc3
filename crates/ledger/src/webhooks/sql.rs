//! Statements that both engines run alike: one text, or two where they have to differ.
//!
//! Owns how a statement and its values are told to an engine. Parameters are `$1`, `$2`, …,
//! and appear for the first time in that order, because SQLite numbers them by that.

use async_trait::async_trait;

#[cfg(test)]
use crate::db::statements::{Backend, Texts};
use crate::error::LedgerError;
use crate::model::Operation;
use crate::rows::{BindRow, ReadRow, number};
use crate::store::Batch;
use crate::webhooks::model::{
    ClaimedDeliveries, DeliveryKey, DeliveryLease, DeliverySettlement, DeliveryWant,
};
use crate::webhooks::subscribers::Subscribers;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::webhooks::{Callback, ReceiverKey};
use cloakroom_domain::{OperationId, Timestamp};

/// A statement in the words of each engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self { sqlite: both, postgres: both }
    }
}

#[cfg(test)]
impl Texts for Sql {
    fn texts(&self, backend: Backend) -> Vec<String> {
        let text = if backend == Backend::Sqlite { self.sqlite } else { self.postgres };
        vec![text.to_owned()]
    }
}

/// A SELECT whose rows are locked where others write too; what another one has locked is
/// passed over there.
macro_rules! locking {
    ($sql:expr) => {
        $crate::webhooks::sql::Sql {
            sqlite: $sql,
            postgres: concat!($sql, " FOR UPDATE SKIP LOCKED"),
        }
    };
}
pub(crate) use locking;

/// A value of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Octets(Option<Vec<u8>>),
}

/// The values of a statement or of a row, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(pub(crate) Vec<Value>);

impl Params {
    /// Few rows have more.
    const USUAL: usize = 8;

    /// None yet.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// One number.
    pub(crate) fn number(number: i64) -> Self {
        let mut values = Vec::with_capacity(Self::USUAL);
        values.push(Value::Number(Some(number)));
        Self(values)
    }

    /// The id of an operation.
    pub(crate) fn id(id: OperationId) -> Self {
        Self::none().octets(id.as_bytes().to_vec())
    }

    /// With that number behind.
    #[must_use]
    pub(crate) fn and(mut self, value: impl Into<Option<i64>>) -> Self {
        self.0.push(Value::Number(value.into()));
        self
    }

    /// With that instant behind.
    #[must_use]
    pub(crate) fn at(self, at: Timestamp) -> Self {
        self.and(at.as_micros())
    }

    /// With that text behind.
    #[must_use]
    pub(crate) fn text(mut self, value: impl Into<Option<String>>) -> Self {
        self.0.push(Value::Text(value.into()));
        self
    }

    /// With these octets behind.
    #[must_use]
    pub(crate) fn octets(mut self, value: impl Into<Option<Vec<u8>>>) -> Self {
        self.0.push(Value::Octets(value.into()));
        self
    }

    /// Puts them into the cells of a row.
    pub(crate) fn put(&self, cells: &mut impl BindRow) {
        for value in self.0.iter().cloned() {
            match value {
                Value::Number(number) => cells.number(number),
                Value::Text(text) => cells.text(text),
                Value::Octets(octets) => cells.octets(octets),
            };
        }
    }
}

/// A table that rows are put into.
#[derive(Debug)]
pub(crate) struct Table {
    /// An INSERT up to the table.
    pub(crate) head: &'static str,
    /// The columns, with `, ` between.
    pub(crate) columns: &'static str,
    /// A letter a column: n number, t text, o octets; in upper case where it is mostly empty;
    /// c for a number, w for a text that is mostly the same in all rows of a batch.
    pub(crate) letters: &'static str,
    /// The whole INSERT of one row.
    pub(crate) insert: &'static str,
}

#[cfg(test)]
impl Texts for Table {
    fn texts(&self, backend: Backend) -> Vec<String> {
        match backend {
            Backend::Sqlite => vec![self.insert.to_owned()],
            // Its columns travel as arrays: see `Statement::of`.
            Backend::Postgres => Vec::new(),
        }
    }
}

/// A table: its name, its columns, a letter for each, and as many marks.
macro_rules! table {
    ($name:literal, $columns:literal, $letters:literal, $marks:literal) => {
        $crate::webhooks::sql::Table {
            head: concat!("INSERT INTO ", $name),
            columns: $columns,
            letters: $letters,
            insert: concat!("INSERT INTO ", $name, " (", $columns, ") VALUES (", $marks, ")"),
        }
    };
}
pub(crate) use table;

/// What has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IdSequence {
    Messages,
    Deliveries,
}

/// An operation that a receiver may be told of.
#[derive(Debug)]
pub(crate) struct OperationSnapshot {
    pub(crate) seq: i64,
    pub(crate) operation: Operation,
    pub(crate) callback: Option<Callback>,
}

/// A delivery that was taken from whom it had been handed out to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReclaimedDelivery {
    pub(crate) lease: DeliveryLease,
    pub(crate) receiver: ReceiverKey,
    pub(crate) attempts: i64,
    pub(crate) refusals: i64,
}

impl ReclaimedDelivery {
    /// From the row that was taken.
    pub(crate) fn of(row: &impl ReadRow) -> Result<Self, LedgerError> {
        let delivery = DeliveryKey(number(row, "delivery")?);
        Ok(Self {
            lease: DeliveryLease { delivery, token: number(row, "token")? },
            receiver: ReceiverKey(number(row, "receiver")?),
            attempts: number(row, "attempts")?,
            refusals: number(row, "refusals")?,
        })
    }
}

/// One writing transaction, of whichever engine.
#[async_trait]
pub(crate) trait SqlTransaction: Send {
    /// What it reads.
    type Row: ReadRow + Send + Sync;

    /// Whether one statement is all that is written, and no receiver wanted to know of it.
    fn is_alone(&self) -> bool;

    /// The incarnation of the node that writes.
    fn node(&self) -> i64;

    /// What seals and opens values.
    fn sealer(&self) -> &Sealer;

    /// What is remembered of receivers.
    fn subscribers(&self) -> std::sync::Arc<Subscribers>;

    /// The rows that a statement brings.
    async fn rows(&mut self, sql: Sql, given: Params) -> Result<Vec<Self::Row>, LedgerError>;

    /// Puts rows into a table.
    async fn put(&mut self, table: &'static Table, rows: Vec<Params>) -> Result<(), LedgerError>;

    /// So many new numbers, rising; none that was ever handed out.
    async fn numbers(&mut self, of: IdSequence, count: usize) -> Batch<i64>;

    /// Remembers how far numbers were handed out, because rows go that have them.
    async fn keep_numbers(&mut self) -> Result<(), LedgerError>;

    /// An operation that has ended in this transaction, as it stood then, where that is at
    /// hand; once.
    fn ended(&mut self, seq: i64) -> Option<OperationSnapshot>;

    /// Operations as they stand, in no order; those that are gone are left out.
    async fn operations(&mut self, seqs: &[i64]) -> Batch<OperationSnapshot>;

    /// Hands out due deliveries.
    async fn claim_deliveries(
        &mut self,
        wants: &[DeliveryWant],
        now: Timestamp,
    ) -> Batch<ClaimedDeliveries>;

    /// Takes back what was handed out under these leases, as far as they are the latest.
    async fn take_sending(&mut self, leases: &[DeliveryLease]) -> Batch<ReclaimedDelivery>;

    /// Ends these, which their receivers took, as far as their leases are the latest; says
    /// which. None where nothing was done, because receivers may have changed since that
    /// version.
    async fn take_delivered(
        &mut self,
        batch: &[DeliverySettlement],
        version: i64,
    ) -> Result<Option<Vec<DeliveryKey>>, LedgerError>;

    /// What had been inserted as an event in this transaction and is still to be told.
    fn told(&mut self) -> Vec<PendingEvent>;

    /// Whether it makes receivers of callbacks: then nothing that it reads of receivers is
    /// remembered, because it may yet be undone.
    fn makes_callbacks(&self) -> bool;

    /// From here on it makes receivers of callbacks.
    fn make_callbacks(&mut self);

    /// The version of receivers, as far as this transaction has read it.
    fn version(&self) -> Option<i64>;
}

/// An event that a receiver may have to be told of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingEvent {
    pub(crate) seq: i64,
    pub(crate) sequence: u32,
    pub(crate) topic: cloakroom_domain::webhooks::Topic,
    pub(crate) at: Timestamp,
}

impl PendingEvent {
    /// None where no receiver is told of such.
    pub(crate) fn of(event: &crate::rows::EventRow) -> Option<Self> {
        let topic = cloakroom_domain::webhooks::Topic::of(event.kind)?;
        Some(Self { seq: event.seq, sequence: event.sequence, topic, at: event.at })
    }
}

/// Reading, of whichever engine; each statement sees one moment.
#[async_trait]
pub(crate) trait SqlReader: Send + Sync {
    /// What it reads.
    type Row: ReadRow + Send + Sync;

    /// What seals and opens values.
    fn sealer(&self) -> &Sealer;

    /// What is remembered of receivers.
    fn subscribers(&self) -> &Subscribers;

    /// The rows that a statement brings.
    async fn ask(&self, sql: Sql, given: Params) -> Result<Vec<Self::Row>, LedgerError>;

    /// The same, however long it takes: at the start only.
    async fn ask_for_long(&self, sql: Sql, given: Params) -> Result<Vec<Self::Row>, LedgerError> {
        self.ask(sql, given).await
    }
}

/// The only row of a question, if any.
pub(crate) async fn ask_one<R: SqlReader + ?Sized>(
    reader: &R,
    sql: impl Into<Sql> + Send,
    given: Params,
) -> Result<Option<R::Row>, LedgerError> {
    Ok(reader.ask(sql.into(), given).await?.into_iter().next())
}

/// The only row, if any.
pub(crate) async fn one<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    sql: impl Into<Sql> + Send,
    given: Params,
) -> Result<Option<W::Row>, LedgerError> {
    Ok(writing.rows(sql.into(), given).await?.into_iter().next())
}

/// Runs a statement that brings nothing.
pub(crate) async fn run<W: SqlTransaction + ?Sized>(
    writing: &mut W,
    sql: impl Into<Sql> + Send,
    given: Params,
) -> Result<(), LedgerError> {
    writing.rows(sql.into(), given).await.map(drop)
}
