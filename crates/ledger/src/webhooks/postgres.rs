//! Webhooks on PostgreSQL: batches travel as arrays.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::{Statement, Values, storable};
use crate::db::postgres::lookups::places;
use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Acceptance;
use crate::rows::{
    as_micros, carried, damaged, maybe_time, number, operation, operations, origins,
};
use crate::store::Batch;
use crate::webhooks::publish::{DELIVERIES, DUE, FAN_OUTS, HELD, MESSAGES, SENDING, refresh};
use crate::webhooks::rows::{callback, leased_columns};
use crate::webhooks::settle::{ATTEMPTS, ENDED};
use crate::webhooks::sql::{
    IdSequence, OperationSnapshot, Params, PendingEvent, ReclaimedDelivery, Sql, SqlReader,
    SqlTransaction, Table, Value,
};
use crate::webhooks::subscribers::Subscribers;
use crate::webhooks::subscription_index::SubscriptionIndex;
use crate::webhooks::unreadable::HandedDelivery;
use crate::webhooks::{
    AttemptSettlement, ClaimedDeliveries, DeliveryKey, DeliveryLease, DeliverySettlement,
    DeliveryWant,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::webhooks::{ReceiverKey, Topic};

statements! {
    /// The tables of webhooks that rows are put into.
    static TABLES: [(&Table, Statement); 8] = [
        (&MESSAGES, Statement::of(&MESSAGES)),
        (&FAN_OUTS, Statement::of(&FAN_OUTS)),
        (&DELIVERIES, Statement::of(&DELIVERIES)),
        (&DUE, Statement::of(&DUE)),
        (&SENDING, Statement::of(&SENDING)),
        (&HELD, Statement::of(&HELD)),
        (&ENDED, Statement::of(&ENDED)),
        (&ATTEMPTS, Statement::of(&ATTEMPTS)),
    ];

    const OPERATIONS: &str = concat!(operations!(), places!(), " WHERE o.seq = ANY ($1)");

    /// Differs from SQLite because others claim too, and because each statement is a round trip:
    /// all wants are asked for at once, what another one is taking is passed over, and what is
    /// taken is left out of what comes next.
    const CLAIMED: &str = concat!(
        r"
        WITH taken AS (
            DELETE FROM deliveries_due
            WHERE delivery = ANY (ARRAY (
                SELECT d.delivery
                FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS want (receiver,
                    again, most)
                JOIN receivers r ON r.receiver = want.receiver AND r.state = 'active'
                CROSS JOIN LATERAL (
                    SELECT delivery
                    FROM deliveries_due
                    WHERE receiver = want.receiver AND again = want.again AND due_at <= $4
                    ORDER BY due_at, delivery
                    LIMIT want.most
                    FOR UPDATE SKIP LOCKED
                ) AS d
            ))
            RETURNING delivery, receiver, again, due_at, attempts, refusals, token
        ), begun AS (
            INSERT INTO deliveries_sending (delivery, receiver, node, since, attempts,
                refusals, token)
            SELECT delivery, receiver, $5, $4, least(attempts, 9223372036854775806) + 1,
                refusals, least(token, 4611686018427387903) + 1
            FROM taken
        )
        SELECT want.receiver AS wanted, want.again AS wanted_again, head.due_at AS next_due,
            t.delivery, t.due_at, t.attempts, t.refusals, t.token, ",
        leased_columns!(),
        r"
        FROM UNNEST($1::bigint[], $2::bigint[]) AS want (receiver, again)
        LEFT JOIN LATERAL (
            SELECT due_at
            FROM deliveries_due
            WHERE receiver = want.receiver
                AND again = want.again
                AND delivery NOT IN (SELECT delivery FROM taken)
            ORDER BY due_at, delivery
            LIMIT 1
        ) AS head ON true
        LEFT JOIN taken t ON t.receiver = want.receiver AND t.again = want.again
        LEFT JOIN deliveries v ON v.delivery = t.delivery
        LEFT JOIN messages m ON m.message = v.message
        LEFT JOIN receivers r ON r.receiver = t.receiver
        ORDER BY t.due_at, t.delivery"
    );

    /// Looked up one by one, as the places of operations are.
    const TAKEN: &str = r"
        DELETE FROM deliveries_sending
        WHERE delivery = ANY (ARRAY (
            SELECT held.delivery
            FROM UNNEST($1::bigint[], $2::bigint[]) AS lease (delivery, token)
            CROSS JOIN LATERAL (
                SELECT delivery
                FROM deliveries_sending
                WHERE delivery = lease.delivery AND token = lease.token
                LIMIT 1
                FOR UPDATE
            ) AS held
        ))
        RETURNING delivery, receiver, attempts, refusals, token";

    /// One statement instead of one for each table, because it can go down by itself: each
    /// transaction around statements costs two more round trips. What is written down of each
    /// travels with its lease.
    const DELIVERED: &str = r"
        WITH held AS MATERIALIZED (
            SELECT s.delivery, s.attempts, l.ended_at, l.at, l.took_us, l.status
            FROM UNNEST($1::bigint[], $2::bigint[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::bigint[]) AS l (delivery, token, ended_at, at, took_us,
                status)
            CROSS JOIN LATERAL (
                SELECT delivery, attempts
                FROM deliveries_sending
                WHERE delivery = l.delivery AND token = l.token
                LIMIT 1
                FOR UPDATE
            ) AS s
            WHERE (SELECT version FROM webhooks) = $3
        ), gone AS (
            DELETE FROM deliveries_sending
            WHERE delivery = ANY (ARRAY (SELECT delivery FROM held))
        ), ended AS (
            INSERT INTO deliveries_ended (delivery, state, ended_at, attempts, at, took_us,
                status)
            SELECT delivery, 'delivered', ended_at, attempts, at, took_us, status
            FROM held
        )
        SELECT delivery
        FROM held";

    const NEXT_MESSAGES: &str = r"SELECT nextval('messages_order') AS first FROM generate_series(1, $1)";
    const NEXT_DELIVERIES: &str = r"SELECT nextval('deliveries_order') AS first FROM generate_series(1, $1)";
}

/// How many numbers a node takes at a time; as the sequences say.
const BLOCK: i64 = 256;

/// Whether a receiver may want to know that operations of this batch, or of a claim, begin:
/// then it is no single statement.
pub(crate) fn begins_are_told(index: &SubscriptionIndex, acceptances: &[Acceptance]) -> bool {
    let begins = |acceptance: &Acceptance| {
        let callback = acceptance.operation.callback.as_ref();
        callback.is_some_and(|callback| {
            callback.topics.has(Topic::Accepted) || callback.topics.has(Topic::Started)
        })
    };
    let claims = acceptances.is_empty() && index.has_callbacks();
    index.wants_begins() || claims || acceptances.iter().any(begins)
}

impl PgTransaction {
    /// The only statement wrote nothing, because receivers have changed: it is done again, in
    /// a transaction.
    pub(crate) async fn turn_back(&mut self) -> Result<(), LedgerError> {
        self.leave_alone();
        refresh(self).await
    }

    /// Takes numbers that were taken before and not used.
    fn left_over(&self, of: IdSequence, count: usize) -> Vec<i64> {
        // It holds plain values.
        let mut blocks = self.book.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let block = blocks.entry(of).or_insert((0, 0));
        let taken: Vec<_> = (block.0..block.1).take(count).collect();
        block.0 += taken.len() as i64;
        taken
    }
}

#[async_trait]
impl SqlTransaction for PgTransaction {
    type Row = PgRow;

    fn is_alone(&self) -> bool {
        self.alone
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

    async fn rows(&mut self, sql: Sql, given: Params) -> Result<Vec<PgRow>, LedgerError> {
        Self::rows(self, sql.postgres, bound(given)).await
    }

    async fn put(&mut self, table: &'static Table, rows: Vec<Params>) -> Result<(), LedgerError> {
        let of = |(known, _): &&(&Table, Statement)| std::ptr::eq(*known, table);
        let (_, statement) =
            TABLES.iter().find(of).ok_or_else(|| damaged("a table that is not known"))?;
        self.script.add(statement, &rows, Params::put);
        Ok(())
    }

    async fn numbers(&mut self, of: IdSequence, count: usize) -> Batch<i64> {
        let mut numbers = self.left_over(of, count);
        let missing = (count - numbers.len()) as i64;
        if missing > 0 {
            let sequence = match of {
                IdSequence::Messages => NEXT_MESSAGES,
                IdSequence::Deliveries => NEXT_DELIVERIES,
            };
            let blocks = (missing + BLOCK - 1) / BLOCK;
            // Nothing that is still to be written matters to it, and goes down together as it is.
            let rows = self.read(sequence, Values::default().with(blocks).finish()?).await?;
            for row in &rows {
                let first: i64 = number(row, "first")?;
                let end = first + BLOCK;
                let used = (count - numbers.len()).min(BLOCK as usize) as i64;
                numbers.extend(first..first + used);
                if used < BLOCK {
                    let mut blocks =
                        self.book.blocks.lock().unwrap_or_else(PoisonError::into_inner);
                    blocks.insert(of, (first + used, end));
                }
            }
        }
        Ok(numbers)
    }

    /// Differs from SQLite because sequences remember what they have handed out.
    async fn keep_numbers(&mut self) -> Result<(), LedgerError> {
        Ok(())
    }

    fn ended(&mut self, seq: i64) -> Option<OperationSnapshot> {
        self.ended.remove(&seq)
    }

    async fn operations(&mut self, seqs: &[i64]) -> Batch<OperationSnapshot> {
        let rows = Self::rows(self, OPERATIONS, Values::default().with(seqs.to_vec())).await?;
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
        let receivers: Vec<_> = wants.iter().map(|want| want.receiver.0).collect();
        let again: Vec<_> = wants.iter().map(|want| i64::from(want.again)).collect();
        let limits: Vec<_> = wants.iter().map(|want| want.limit as i64).collect();
        let values = Values::default().with(receivers).with(again).with(limits);
        let values = values.with(now.as_micros()).with(self.book.incarnation);
        let rows = Self::rows(self, CLAIMED, values).await?;
        let mut found: HashMap<(i64, i64), (Option<Timestamp>, Vec<_>)> = HashMap::new();
        for row in &rows {
            let (receiver, again) = (number(row, "wanted")?, number(row, "wanted_again")?);
            let (next_due, handed) = found.entry((receiver, again)).or_default();
            *next_due = maybe_time(row, "next_due")?;
            if maybe_time(row, "due_at")?.is_some() {
                let receiver = ReceiverKey(receiver);
                handed.push(HandedDelivery::of(row, receiver, &self.book.sealer, now)?);
            }
        }
        let claimed = |want: &DeliveryWant| {
            let key = (want.receiver.0, i64::from(want.again));
            let (next_due, handed) = found.remove(&key).unwrap_or_default();
            HandedDelivery::sorted(*want, handed, next_due)
        };
        Ok(wants.iter().map(claimed).collect())
    }

    async fn take_sending(&mut self, leases: &[DeliveryLease]) -> Batch<ReclaimedDelivery> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let mut leases: Vec<_> =
            leases.iter().map(|lease| (lease.delivery.0, lease.token)).collect();
        leases.sort_unstable();
        let (deliveries, tokens): (Vec<_>, Vec<_>) = leases.into_iter().unzip();
        let values = Values::default().with(deliveries).with(tokens);
        let rows = Self::rows(self, TAKEN, values).await?;
        rows.iter().map(ReclaimedDelivery::of).collect()
    }

    async fn take_delivered(
        &mut self,
        batch: &[DeliverySettlement],
        version: i64,
    ) -> Result<Option<Vec<DeliveryKey>>, LedgerError> {
        let mut batch: Vec<_> = batch.iter().filter_map(DeliverySettlement::delivered).collect();
        batch.sort_unstable_by_key(|attempt| attempt.lease.delivery);
        let numbers = |of: fn(&AttemptSettlement) -> i64| {
            batch.iter().map(|attempt| of(attempt)).collect::<Vec<_>>()
        };
        let statuses: Vec<_> =
            batch.iter().map(|attempt| attempt.record.status.map(i64::from)).collect();
        let values = Values::default()
            .with(numbers(|attempt| attempt.lease.delivery.0))
            .with(numbers(|attempt| attempt.lease.token))
            .with(version)
            .with(numbers(|attempt| attempt.at.as_micros()))
            .with(numbers(|attempt| attempt.record.at.as_micros()))
            .with(numbers(|attempt| as_micros(attempt.record.took)))
            .with(statuses);
        let rows = Self::rows(self, DELIVERED, values).await?;
        let keys = rows.iter().map(|row| Ok(DeliveryKey(number(row, "delivery")?)));
        let keys = keys.collect::<Result<Vec<_>, LedgerError>>()?;
        // No node had one of them any more, or receivers have changed.
        Ok((!keys.is_empty()).then_some(keys))
    }

    fn told(&mut self) -> Vec<PendingEvent> {
        std::mem::take(&mut self.told)
    }

    fn makes_callbacks(&self) -> bool {
        self.makes_callbacks
    }

    fn make_callbacks(&mut self) {
        self.makes_callbacks = true;
    }

    fn version(&self) -> Option<i64> {
        self.version
    }
}

fn bound(given: Params) -> Values {
    given.0.into_iter().fold(Values::default(), |values, value| match value {
        Value::Number(number) => values.with(number),
        Value::Text(text) => values.with(text.map(storable)),
        Value::Octets(octets) => values.with(octets),
    })
}

#[async_trait]
impl SqlReader for Postgres {
    type Row = PgRow;

    fn sealer(&self) -> &Sealer {
        &self.book.sealer
    }

    fn subscribers(&self) -> &Subscribers {
        &self.book.subscribers
    }

    async fn ask(&self, sql: Sql, given: Params) -> Result<Vec<PgRow>, LedgerError> {
        self.pool.read(sql.postgres, bound(given).finish()?).await
    }
}
