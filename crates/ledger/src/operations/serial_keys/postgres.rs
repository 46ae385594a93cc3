//! Serial keys that a failure blocks, and those that operations hold. What is blocked
//! changes only while the key is locked.

use std::collections::HashMap;

use sqlx::postgres::PgRow;

use crate::commit::effects::Effects;
use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::{Statement, Values};
use crate::db::postgres::transaction::{PgTransaction, octets};
use crate::db::postgres::watermarks::Shelf;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{Acceptance, SerialName, Unblocked};
use crate::operations::finish::postgres::go_next;
use crate::rows::{BindRow, EventRow, exactly, id, number};
use cloakroom_domain::operation::{EventKind, NewOperation};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    static BLOCKED: Statement = Statement::reading(
        r"
        INSERT INTO blocked_keys (digest, seq, operation, serial_key, upstream, blocked_at)
        SELECT o.serial_digest, o.seq, o.id, o.serial_key,
            coalesce(l.upstream, 'unknown'), b.at
        FROM (",
        "nn",
        r") AS b (seq, at) JOIN operations o ON o.seq = b.seq LEFT JOIN lanes l ON l.lane = o.lane
            ON CONFLICT (digest) DO UPDATE SET seq = EXCLUDED.seq,
            operation = EXCLUDED.operation, serial_key = EXCLUDED.serial_key,
            upstream = EXCLUDED.upstream, blocked_at = EXCLUDED.blocked_at",
    );

    static BLOCKED_GONE: Statement = Statement::reading(
        r"DELETE FROM blocked_keys AS b USING (",
        "o",
        ") AS gone (digest) WHERE b.digest = gone.digest",
    );

    const BLOCKED_BY: &str = r"SELECT digest, seq, operation FROM blocked_keys WHERE digest = ANY ($1)";
    /// Differs from SQLite because others write too: what is seen before its keys are locked is looked
    /// at again afterwards.
    const DELAY_OVER: &str = r"
        SELECT seq, serial_digest
        FROM waiting
        WHERE delayed_until >= $3 AND delayed_until <= $1
        ORDER BY delayed_until, seq
        LIMIT $2";

    const STILL_DELAYED: &str = r"
        SELECT DISTINCT w.serial_digest
        FROM UNNEST($1::bigint[]) AS seen (seq)
        CROSS JOIN LATERAL (
            SELECT serial_digest
            FROM waiting
            WHERE seq = seen.seq AND delayed_until IS NOT NULL
            LIMIT 1
        ) AS w";

    const BEHIND_HOLDER: &str = r"
        UPDATE waiting
        SET delayed_until = NULL, sequence = sequence + 1
        WHERE seq = ANY ($1) AND delayed_until IS NOT NULL
        RETURNING seq, sequence, (SELECT id FROM operations o
            WHERE o.seq = waiting.seq) AS id";

    const IS_DELAY_OVER: &str = r"
        SELECT seq
        FROM waiting
        WHERE delayed_until >= $2 AND delayed_until <= $1
        ORDER BY delayed_until, seq
        LIMIT 1";
}

/// Keeps the key of an operation that failed and holds it.
pub(crate) fn block(writing: &mut PgTransaction, seq: i64, at: Timestamp) {
    writing.script.add(&BLOCKED, &[(seq, at)], |(seq, at), cells| {
        cells.number(*seq).number(at.as_micros());
    });
}

/// Who blocks the keys of a batch's repeats by hand.
pub(crate) struct BlockedBefore(HashMap<[u8; 16], (i64, OperationId)>);

/// Looks for what blocks the keys of operations that repeat others by hand. Their keys are
/// locked.
pub(crate) async fn blocked_before(
    writing: &mut PgTransaction,
    batch: &[Acceptance],
) -> Result<BlockedBefore, LedgerError> {
    let repeats = batch.iter().filter(|acceptance| acceptance.operation.retry_of.is_some());
    let digests: Vec<_> = repeats
        .filter_map(|acceptance| Some(acceptance.operation.serial_key.as_ref()?.digest))
        .collect();
    blockers(writing, &digests).await.map(BlockedBefore)
}

async fn blockers(
    writing: &mut PgTransaction,
    digests: &[[u8; 16]],
) -> Result<HashMap<[u8; 16], (i64, OperationId)>, LedgerError> {
    let mut found = HashMap::new();
    if !digests.is_empty() {
        let rows = writing.rows(BLOCKED_BY, Values::default().with(octets(digests))).await?;
        for row in &rows {
            let digest = exactly(row, "digest")?.unwrap_or_default();
            found.insert(digest, (number(row, "seq")?, id(row, "operation")?));
        }
    }
    Ok(found)
}

impl BlockedBefore {
    /// Lets a new operation have a key that the one blocks which it repeats; false if that
    /// one does not block it.
    pub(crate) fn passes_on(
        &self,
        writing: &mut PgTransaction,
        operation: &NewOperation,
        seq: i64,
    ) -> bool {
        let Some(digest) = operation.serial_key.as_ref().map(|key| key.digest) else {
            return false;
        };
        let Some((blocker, former)) = self.0.get(&digest) else { return false };
        if operation.retry_of.map(|retry| retry.of) != Some(*former)
            || !writing.pass_on(digest, *blocker, seq)
        {
            return false;
        }
        forget(writing, digest);
        true
    }
}

fn forget(writing: &mut PgTransaction, digest: [u8; 16]) {
    writing.script.add(&BLOCKED_GONE, &[digest], |digest, cells| {
        cells.octets(digest.to_vec());
    });
}

pub(crate) async fn unblock(
    writing: &mut PgTransaction,
    name: SerialName,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Unblocked, LedgerError> {
    let SerialName(digest) = name;
    writing.lock(vec![digest]).await?;
    let Some((blocker, _)) = blockers(writing, &[digest]).await?.remove(&digest) else {
        return Ok(Unblocked::NotBlocked);
    };
    if !writing.release(digest, blocker) {
        return Ok(Unblocked::NotBlocked);
    }
    forget(writing, digest);
    let before = effects.released.len();
    go_next(writing, &[(digest, now)], effects).await?;
    Ok(Unblocked::Done(effects.released.get(before).copied()))
}

/// Lets operations go whose delay is over: the first of a free key, and all others behind it.
pub(crate) async fn release_delayed(
    writing: &mut PgTransaction,
    limit: usize,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<usize, LedgerError> {
    let values = Values::default().with(now.as_micros()).with(limit as i64);
    let low = writing.book.marks.begin(Shelf::Delays, now);
    let over = writing.rows(DELAY_OVER, values.with(low)).await?;
    if over.len() < limit {
        writing.book.marks.emptied(Shelf::Delays, now);
    }
    let seqs: Vec<i64> = over.iter().map(|row| number(row, "seq")).collect::<Result<_, _>>()?;
    let mut digests = digests(&over)?;
    digests.sort_unstable();
    digests.dedup();
    writing.lock(digests).await?;
    let still = writing.rows(STILL_DELAYED, Values::default().with(seqs.clone())).await?;
    let mut free = self::digests(&still)?;
    free.retain(|digest| writing.is_free(*digest));
    let free: Vec<_> = free.into_iter().map(|digest| (digest, now)).collect();
    go_next(writing, &free, effects).await?;
    let behind = writing.rows(BEHIND_HOLDER, Values::default().with(seqs)).await?;
    let mut events = Vec::with_capacity(behind.len());
    for row in &behind {
        effects.released.push(id(row, "id")?);
        let (seq, sequence) = (number(row, "seq")?, number(row, "sequence")?);
        events.push(EventRow::plain(seq, sequence, now, EventKind::Waiting));
    }
    writing.events(&events);
    Ok(over.len())
}

fn digests(rows: &[PgRow]) -> Result<Vec<[u8; 16]>, LedgerError> {
    rows.iter().map(|row| Ok(exactly(row, "serial_digest")?.unwrap_or_default())).collect()
}

pub(crate) async fn is_delay_over(reader: &Postgres, now: Timestamp) -> Result<bool, LedgerError> {
    let Postgres { pool, book, .. } = reader;
    let low = book.marks.begin(Shelf::Delays, now);
    let values = Values::default().with(now.as_micros()).with(low).finish()?;
    Ok(!pool.read(IS_DELAY_OVER, values).await?.is_empty())
}
