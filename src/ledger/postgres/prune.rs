//! Letting go of what is over: first request and result, later the whole operation.

use std::collections::HashSet;

use super::batch::{Statement, Values};
use super::writing::Writing;
use crate::domain::delivery::{LOOKED_AT_AGAIN, RESULT_KEPT};
use crate::domain::{OperationId, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{Cells, Stored, TAG_SEPARATOR, as_micros, maybe_text, number, text};
use crate::ledger::verbs::Pruned;

/// Differs from SQLite because several nodes prune: each takes what nobody else is taking.
const DUE: &str = "DELETE FROM expiries AS e USING (SELECT due_at, seq FROM expiries WHERE due_at <= $1 \
     ORDER BY due_at, seq LIMIT $2 FOR UPDATE SKIP LOCKED) AS due \
     WHERE e.due_at = due.due_at AND e.seq = due.seq RETURNING e.seq, e.kind";
const FREED: &str =
    "UPDATE outcomes SET freed_at = $2 WHERE seq = ANY ($1) RETURNING seq, finished_at";
const LATER: &str = "INSERT INTO expiries (due_at, seq, kind) SELECT finished_at + $2, seq, 'operation' \
     FROM outcomes WHERE seq = ANY ($1)";

/// The ends of operations that somebody is still to be told of, unless that is too long ago.
const UNSETTLED: &str = "UPDATE outcomes AS x SET expires_at = least($3, x.finished_at + $4) \
     WHERE x.seq = ANY ($1) AND x.finished_at > $2 AND EXISTS ( \
     SELECT 1 FROM messages m WHERE m.seq = x.seq AND (EXISTS (SELECT 1 FROM fan_outs f WHERE f.message = m.message) \
     OR EXISTS (SELECT 1 FROM deliveries v LEFT JOIN deliveries_ended e ON e.delivery = v.delivery \
     WHERE v.message = m.message AND e.delivery IS NULL))) RETURNING x.seq";
const AGAIN: &str = "INSERT INTO expiries (due_at, seq, kind) SELECT expires_at, seq, 'result' \
     FROM outcomes WHERE seq = ANY ($1)";

static TAGS_GONE: Statement = Statement::reading(
    "DELETE FROM tags AS t USING (",
    "tn",
    ") AS gone (tag, seq) WHERE t.tag = gone.tag AND t.seq = gone.seq",
);
pub(super) static KEYS_GONE: Statement = Statement::among(
    "DELETE FROM idempotency_keys AS k USING operations o WHERE k.digest = o.key_digest AND k.seq = o.seq AND o.seq = ANY",
);
static EVENTS_GONE: Statement = Statement::among("DELETE FROM events WHERE seq = ANY");
static VERDICTS_GONE: Statement = Statement::among("DELETE FROM verdicts WHERE seq = ANY");
static OUTCOMES_GONE: Statement = Statement::among("DELETE FROM outcomes WHERE seq = ANY");
static OPERATIONS_GONE: Statement = Statement::among("DELETE FROM operations WHERE seq = ANY");

pub(super) async fn prune(
    writing: &mut Writing,
    limit: usize,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    let values = Values::default().with(now.as_micros()).with(limit as i64);
    let due = writing.rows(DUE, values).await?;
    let (mut results, mut operations) = (Vec::new(), Vec::new());
    for row in &due {
        let seq: i64 = number(row, "seq")?;
        match text(row, "kind")? {
            "result" => results.push(seq),
            _ => operations.push(seq),
        }
    }
    let pruned = Pruned { results: results.len() as u64, operations: operations.len() as u64 };
    let kept = put_off(writing, &results, now).await?;
    results.retain(|seq| !kept.contains(seq));
    let pruned = Pruned { results: results.len() as u64, ..pruned };
    free_at(writing, results, now).await?;
    remove(writing, operations).await?;
    Ok(pruned)
}

/// Keeps results for a while whose deliveries are under way; says which.
async fn put_off(
    writing: &mut Writing,
    seqs: &[i64],
    now: Timestamp,
) -> Result<HashSet<i64>, LedgerError> {
    if seqs.is_empty() {
        return Ok(HashSet::new());
    }
    let values = Values::default().with(seqs.to_vec()).with((now - RESULT_KEPT).as_micros());
    let values = values.with((now + LOOKED_AT_AGAIN).as_micros()).with(as_micros(RESULT_KEPT));
    let rows = writing.rows(UNSETTLED, values).await?;
    let kept: HashSet<i64> = rows.iter().map(|row| number(row, "seq")).collect::<Result<_, _>>()?;
    if !kept.is_empty() {
        let seqs: Vec<_> = kept.iter().copied().collect();
        writing.run(AGAIN, Values::default().with(seqs)).await?;
    }
    Ok(kept)
}

pub(super) async fn free(
    writing: &mut Writing,
    id: OperationId,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let row = writing
        .row(
            "SELECT x.seq, x.expires_at, x.freed_at FROM outcomes x JOIN operations o ON o.seq = x.seq \
             WHERE o.id = $1 FOR UPDATE OF x",
            Values::default().with(id.as_bytes().to_vec()),
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    if row.number("freed_at")?.is_some() {
        return Ok(true);
    }
    let (seq, expires_at): (i64, i64) = (number(&row, "seq")?, number(&row, "expires_at")?);
    writing
        .run(
            "DELETE FROM expiries WHERE due_at = $2 AND seq = $1",
            Values::default().with(seq).with(expires_at),
        )
        .await?;
    free_at(writing, vec![seq], now).await?;
    Ok(true)
}

/// Frees requests and results; the rows stay until their own time has come.
async fn free_at(writing: &mut Writing, seqs: Vec<i64>, now: Timestamp) -> Result<(), LedgerError> {
    if seqs.is_empty() {
        return Ok(());
    }
    erase_bodies(writing, seqs.clone()).await?;
    writing.run(FREED, Values::default().with(seqs.clone()).with(now.as_micros())).await?;
    let after = as_micros(writing.book.retention.operation);
    writing.run(LATER, Values::default().with(seqs).with(after)).await
}

/// Deletes requests and results of operations with all their pieces.
pub(super) async fn erase_bodies(writing: &mut Writing, seqs: Vec<i64>) -> Result<(), LedgerError> {
    let gone = writing
        .rows(
            "WITH request AS (DELETE FROM requests WHERE seq = ANY ($1) RETURNING body_key), \
             result AS (DELETE FROM results WHERE seq = ANY ($1) RETURNING body_key) \
             SELECT body_key FROM request WHERE body_key IS NOT NULL \
             UNION ALL SELECT body_key FROM result WHERE body_key IS NOT NULL",
            Values::default().with(seqs),
        )
        .await?;
    let bodies: Result<Vec<_>, _> = gone.iter().map(|row| number(row, "body_key")).collect();
    erase_pieces(writing, bodies?).await
}

/// Deletes the pieces of bodies.
pub(super) async fn erase_pieces(
    writing: &mut Writing,
    bodies: Vec<i64>,
) -> Result<(), LedgerError> {
    if bodies.is_empty() {
        return Ok(());
    }
    writing.run("DELETE FROM pieces WHERE body = ANY ($1)", Values::default().with(bodies)).await
}

/// Leaves nothing of operations.
async fn remove(writing: &mut Writing, seqs: Vec<i64>) -> Result<(), LedgerError> {
    if seqs.is_empty() {
        return Ok(());
    }
    erase_bodies(writing, seqs.clone()).await?;
    let tagged = writing
        .rows(
            "SELECT seq, tags FROM operations WHERE seq = ANY ($1) AND tags IS NOT NULL",
            Values::default().with(seqs.clone()),
        )
        .await?;
    let mut tags = Vec::new();
    for row in &tagged {
        let (seq, text): (i64, _) = (number(row, "seq")?, maybe_text(row, "tags")?);
        let text = text.unwrap_or_default();
        tags.extend(text.split(TAG_SEPARATOR).map(|tag| (tag.to_owned(), seq)));
    }
    tags.sort_unstable();
    writing
        .script
        .add(&TAGS_GONE, &tags, |(tag, seq), cells| {
            cells.text(tag.clone()).number(*seq);
        })
        .add_numbers(&KEYS_GONE, &seqs)
        .add_numbers(&EVENTS_GONE, &seqs)
        .add_numbers(&VERDICTS_GONE, &seqs)
        .add_numbers(&OUTCOMES_GONE, &seqs)
        .add_numbers(&OPERATIONS_GONE, &seqs);
    Ok(())
}
