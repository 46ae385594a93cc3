//! Webhooks on SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, Sqlite as Database};

use crate::db::sqlite::open::trouble;
use crate::db::sqlite::rows::{
    damaged, maybe_time, number, operation, operations, origins, places,
};
use crate::db::sqlite::writer::{Row, Values};
use crate::db::sqlite::{Sqlite, SqliteTransaction};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::store::Batch;
use crate::webhooks::rows::{callback, leased_columns};
use crate::webhooks::settle::{ENDED, end_with};
use crate::webhooks::sql::{
    IdSequence, OperationSnapshot, Params, PendingEvent, ReclaimedDelivery, Sql, SqlReader,
    SqlTransaction, Table, Value,
};
use crate::webhooks::subscribers::Subscribers;
use crate::webhooks::unreadable::HandedDelivery;
use crate::webhooks::{
    ClaimedDeliveries, DeliveryEnd, DeliveryKey, DeliveryLease, DeliverySettlement, DeliveryWant,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::webhooks::ReceiverKey;

statements! {
    const OPERATION: &str = concat!(operations!(), places!(), " WHERE o.seq = ?");

    const DUE: &str = concat!(
        r"SELECT d.delivery, d.attempts, d.refusals, d.token, ",
        leased_columns!(),
        r"
        FROM deliveries_due d
        JOIN receivers r ON r.receiver = d.receiver
        LEFT JOIN deliveries v ON v.delivery = d.delivery
        LEFT JOIN messages m ON m.message = v.message
        WHERE d.receiver = ? AND d.again = ? AND d.due_at <= ? AND r.state = 'active'
        ORDER BY d.due_at, d.delivery
        LIMIT ?"
    );

    const NEXT: &str = r"
        SELECT due_at
        FROM deliveries_due
        WHERE receiver = ? AND again = ?
        ORDER BY due_at
        LIMIT 1";

    const DUE_GONE: &str = r"DELETE FROM deliveries_due WHERE delivery = ?";

    const SENDING: &str = r"
        INSERT INTO deliveries_sending (delivery, receiver, node, since, attempts, refusals,
            token)
        VALUES (?, ?, ?, ?, ?, ?, ?)";

    const SENT: &str = r"DELETE FROM deliveries_sending WHERE delivery = ? AND token = ?";

    const TAKEN: &str = r"
        DELETE FROM deliveries_sending
        WHERE delivery = ? AND token = ?
        RETURNING delivery, receiver, attempts, refusals, token";

    const LAST_MESSAGE: &str = r"
        SELECT max(last_message, coalesce((SELECT max(message) FROM messages), 0)) AS last
        FROM ledger";

    const LAST_DELIVERY: &str = r"
        SELECT max(last_delivery, coalesce((SELECT max(delivery) FROM deliveries),
            0)) AS last
        FROM ledger";

    const LAST_KEPT: &str = r"
        UPDATE ledger
        SET last_message = max(last_message, coalesce((SELECT max(message) FROM messages),
            0)), last_delivery = max(last_delivery, coalesce((SELECT max(delivery)
            FROM deliveries), 0))";
}

#[async_trait]
impl SqlTransaction for SqliteTransaction {
    type Row = Row;

    fn is_alone(&self) -> bool {
        false
    }

    fn node(&self) -> i64 {
        self.book.incarnation
    }

    fn sealer(&self) -> &Sealer {
        &self.book.sealer
    }

    fn subscribers(&self) -> Arc<Subscribers> {
        Arc::clone(&self.book.subscribers)
    }

    async fn rows(&mut self, sql: Sql, given: Params) -> Result<Vec<Row>, LedgerError> {
        self.writer.all(sql.sqlite, |values| bind(&given, values))
    }

    async fn put(&mut self, table: &'static Table, rows: Vec<Params>) -> Result<(), LedgerError> {
        self.writer.each(table.insert, &rows, bind).map(drop)
    }

    async fn numbers(&mut self, of: IdSequence, count: usize) -> Batch<i64> {
        let next = if let Some(next) = self.writer.next.get(&of) {
            *next
        } else {
            let last = match of {
                IdSequence::Messages => LAST_MESSAGE,
                IdSequence::Deliveries => LAST_DELIVERY,
            };
            let row = self.writer.one(last, |_| {})?;
            row.map_or(Ok(0), |row| number::<i64>(&row, "last"))? + 1
        };
        self.writer.next.insert(of, next + count as i64);
        Ok((next..).take(count).collect())
    }

    async fn keep_numbers(&mut self) -> Result<(), LedgerError> {
        self.writer.run(LAST_KEPT, |_| {}).map(drop)
    }

    fn ended(&mut self, seq: i64) -> Option<OperationSnapshot> {
        self.ended.remove(&seq)
    }

    async fn operations(&mut self, seqs: &[i64]) -> Batch<OperationSnapshot> {
        let rows = self.writer.all_of_each(OPERATION, seqs, |seq, values| {
            values.put(seq);
        })?;
        let sealer = &self.book.sealer;
        let announced = |row| {
            let (operation, callback) = (operation(row, sealer)?, callback(row, sealer)?);
            Ok::<_, LedgerError>(OperationSnapshot {
                seq: number(row, "seq")?,
                operation,
                callback,
            })
        };
        // No receiver is told of an operation that cannot be read.
        Ok(rows.iter().filter_map(|row| announced(row).ok()).collect())
    }

    async fn claim_deliveries(
        &mut self,
        wants: &[DeliveryWant],
        now: Timestamp,
    ) -> Batch<ClaimedDeliveries> {
        let mut claimed = Vec::with_capacity(wants.len());
        for want in wants {
            claimed.push(claim(self, *want, now)?);
        }
        Ok(claimed)
    }

    async fn take_sending(&mut self, leases: &[DeliveryLease]) -> Batch<ReclaimedDelivery> {
        let rows = self.writer.all_of_each(TAKEN, leases, |lease, values| {
            values.put(lease.delivery.0).put(lease.token);
        })?;
        rows.iter().map(ReclaimedDelivery::of).collect()
    }

    async fn take_delivered(
        &mut self,
        batch: &[DeliverySettlement],
        _version: i64,
    ) -> Result<Option<Vec<DeliveryKey>>, LedgerError> {
        let taken = self.writer.changes(SENT, batch, |settlement, values| {
            values.put(settlement.lease().delivery.0).put(settlement.lease().token);
        })?;
        let (mut ended, mut keys) = (Vec::with_capacity(batch.len()), Vec::new());
        for (settlement, _) in batch.iter().zip(taken).filter(|(_, taken)| *taken > 0) {
            let Some(attempt) = settlement.delivered() else { continue };
            let key = attempt.lease.delivery;
            keys.push(key);
            ended.push(end_with(key, DeliveryEnd::Delivered, attempt.at, &attempt.record));
        }
        self.put(&ENDED, ended).await?;
        Ok(Some(keys))
    }

    fn told(&mut self) -> Vec<PendingEvent> {
        std::mem::take(&mut self.writer.told)
    }

    fn makes_callbacks(&self) -> bool {
        self.makes_callbacks
    }

    fn make_callbacks(&mut self) {
        self.makes_callbacks = true;
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

/// Binds them without copying what they are.
fn bind(given: &Params, values: &mut Values<'_, '_>) {
    for value in &given.0 {
        match value {
            Value::Number(number) => values.put(number),
            Value::Text(text) => values.put(text.as_deref()),
            Value::Octets(octets) => values.put(octets.as_deref()),
        };
    }
}

fn claim(
    writing: &mut SqliteTransaction,
    want: DeliveryWant,
    now: Timestamp,
) -> Result<ClaimedDeliveries, LedgerError> {
    let DeliveryWant { receiver: ReceiverKey(receiver), again, limit } = want;
    let node = writing.book.incarnation;
    let rows = writing.writer.all(DUE, |values| {
        values.put(receiver).put(again).put(now.as_micros()).put(limit as i64);
    })?;
    let handed = |row| HandedDelivery::of(row, want.receiver, &writing.book.sealer, now);
    let handed = rows.iter().map(handed).collect::<Result<Vec<_>, _>>()?;
    writing.writer.each(DUE_GONE, &handed, |handed, values| {
        values.put(handed.lease().delivery.0);
    })?;
    writing.writer.each(SENDING, &handed, |handed, values| {
        let (lease, (attempts, refusals)) = (handed.lease(), handed.counts());
        values.put(lease.delivery.0).put(receiver).put(node).put(now.as_micros());
        values.put(attempts).put(refusals).put(lease.token);
    })?;
    let next = writing.writer.one(NEXT, |values| {
        values.put(receiver).put(again);
    })?;
    let next_due = next.as_ref().map_or(Ok(None), |row| maybe_time(row, "due_at"))?;
    Ok(HandedDelivery::sorted(want, handed, next_due))
}

#[async_trait]
impl SqlReader for Sqlite {
    type Row = SqliteRow;

    fn sealer(&self) -> &Sealer {
        &self.book.sealer
    }

    fn subscribers(&self) -> &Subscribers {
        &self.book.subscribers
    }

    async fn ask(&self, sql: Sql, given: Params) -> Result<Vec<SqliteRow>, LedgerError> {
        fetch(&mut *self.readers.acquire().await?, sql, given).await
    }

    async fn ask_for_long(&self, sql: Sql, given: Params) -> Result<Vec<SqliteRow>, LedgerError> {
        fetch(&mut *self.readers.acquire_for_long().await?, sql, given).await
    }
}

async fn fetch(
    connection: &mut SqliteConnection,
    sql: Sql,
    given: Params,
) -> Result<Vec<SqliteRow>, LedgerError> {
    let mut arguments = SqliteArguments::default();
    for value in given.0 {
        let added = match value {
            Value::Number(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Octets(octets) => arguments.add(octets),
        };
        added.map_err(|error| damaged(format!("a value cannot be asked for: {error}")))?;
    }
    let query = sqlx::query_with::<Database, _>(sql.sqlite, arguments);
    query.fetch_all(connection).await.map_err(trouble)
}
