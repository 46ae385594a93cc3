//! Letting go of what is over: first request and result, later the whole operation.

use super::Writing;
use super::open::trouble;
use super::rows::{TAG_SEPARATOR, get, time};
use crate::domain::{OperationId, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::verbs::Pruned;

pub(super) async fn prune(
    writing: &mut Writing,
    limit: usize,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    let due = sqlx::query(
        "DELETE FROM expiries WHERE (due_at, seq) IN \
         (SELECT due_at, seq FROM expiries WHERE due_at <= ? ORDER BY due_at, seq LIMIT ?) RETURNING seq, kind",
    )
    .bind(now.as_micros())
    .bind(limit as i64)
    .fetch_all(writing.connection().await?)
    .await
    .map_err(trouble)?;
    let mut pruned = Pruned::default();
    for row in &due {
        let seq = get(row, "seq")?;
        if get::<&str>(row, "kind")? == "result" {
            free_at(writing, seq, now).await?;
            pruned.results += 1;
        } else {
            remove(writing, seq).await?;
            pruned.operations += 1;
        }
    }
    Ok(pruned)
}

pub(super) async fn free(
    writing: &mut Writing,
    id: OperationId,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let row = sqlx::query(
        "SELECT x.seq, x.expires_at, x.freed_at FROM outcomes x JOIN operations o ON o.seq = x.seq WHERE o.id = ?",
    )
    .bind(id.as_bytes().to_vec())
    .fetch_optional(writing.connection().await?)
    .await
    .map_err(trouble)?;
    let Some(row) = row else { return Ok(false) };
    if get::<Option<i64>>(&row, "freed_at")?.is_some() {
        return Ok(true);
    }
    let seq: i64 = get(&row, "seq")?;
    numbered(
        writing,
        "DELETE FROM expiries WHERE due_at = ?2 AND seq = ?1",
        seq,
        time(&row, "expires_at")?,
    )
    .await?;
    free_at(writing, seq, now).await?;
    Ok(true)
}

/// Frees request and result; the row stays until its own time has come.
async fn free_at(writing: &mut Writing, seq: i64, now: Timestamp) -> Result<(), LedgerError> {
    erase_bodies(writing, seq).await?;
    numbered(writing, "UPDATE outcomes SET freed_at = ?2 WHERE seq = ?1", seq, now).await?;
    let retention = writing.book.retention;
    let ended = sqlx::query("SELECT finished_at FROM outcomes WHERE seq = ?")
        .bind(seq)
        .fetch_one(writing.connection().await?)
        .await
        .map_err(trouble)?;
    let due_at = time(&ended, "finished_at")? + retention.operation;
    numbered(
        writing,
        "INSERT INTO expiries (due_at, seq, kind) VALUES (?2, ?1, 'operation')",
        seq,
        due_at,
    )
    .await
}

async fn numbered(
    writing: &mut Writing,
    sql: &'static str,
    seq: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let query = sqlx::query(sql).bind(seq).bind(at.as_micros());
    query.execute(writing.connection().await?).await.map(drop).map_err(trouble)
}

/// Deletes request and result of an operation with all their pieces.
pub(super) async fn erase_bodies(writing: &mut Writing, seq: i64) -> Result<(), LedgerError> {
    for sql in [
        "DELETE FROM requests WHERE seq = ? RETURNING body_key",
        "DELETE FROM results WHERE seq = ? RETURNING body_key",
    ] {
        let gone = sqlx::query(sql)
            .bind(seq)
            .fetch_all(writing.connection().await?)
            .await
            .map_err(trouble)?;
        for row in &gone {
            if let Some(body) = get::<Option<i64>>(row, "body_key")? {
                erase_pieces(writing, body).await?;
            }
        }
    }
    Ok(())
}

/// Deletes the pieces of a body.
pub(super) async fn erase_pieces(writing: &mut Writing, body: i64) -> Result<(), LedgerError> {
    let query = sqlx::query("DELETE FROM pieces WHERE body = ?").bind(body);
    query.execute(writing.connection().await?).await.map(drop).map_err(trouble)
}

/// Leaves nothing of an operation.
async fn remove(writing: &mut Writing, seq: i64) -> Result<(), LedgerError> {
    erase_bodies(writing, seq).await?;
    erase_tags(writing, seq).await?;
    for sql in [
        "DELETE FROM idempotency_keys WHERE seq = ?1 AND digest = (SELECT key_digest FROM operations WHERE seq = ?1)",
        "DELETE FROM events WHERE seq = ?1",
        "DELETE FROM outcomes WHERE seq = ?1",
        "DELETE FROM operations WHERE seq = ?1",
    ] {
        sqlx::query(sql).bind(seq).execute(writing.connection().await?).await.map_err(trouble)?;
    }
    Ok(())
}

async fn erase_tags(writing: &mut Writing, seq: i64) -> Result<(), LedgerError> {
    let row = sqlx::query("SELECT tags FROM operations WHERE seq = ?")
        .bind(seq)
        .fetch_optional(writing.connection().await?)
        .await
        .map_err(trouble)?;
    let tags = row.map_or(Ok(None), |row| get::<Option<String>>(&row, "tags"))?.unwrap_or_default();
    for tag in tags.split(TAG_SEPARATOR).filter(|tag| !tag.is_empty()) {
        let query = sqlx::query("DELETE FROM tags WHERE tag = ? AND seq = ?")
            .bind(tag.to_owned())
            .bind(seq);
        query.execute(writing.connection().await?).await.map_err(trouble)?;
    }
    Ok(())
}
