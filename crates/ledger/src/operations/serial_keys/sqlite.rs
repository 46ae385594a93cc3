//! Serial keys that a failure blocks, and those that operations hold.

use std::collections::HashSet;

use crate::commit::effects::Effects;
use crate::db::sqlite::open::trouble;
use crate::db::sqlite::rows::{EventRow, exactly, id, maybe_number, number, octets};
use crate::db::sqlite::{Sqlite, SqliteTransaction};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{SerialName, Unblocked};
use crate::operations::finish::sqlite::{go_next, promote};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{EventKind, NewOperation};

statements! {
    const BLOCKED: &str = r"
        INSERT OR REPLACE INTO blocked_keys (digest, seq, operation, serial_key, upstream,
                blocked_at)
        SELECT o.serial_digest, o.seq, o.id, o.serial_key,
            coalesce(l.upstream, 'unknown'), ?2
        FROM operations o
        LEFT JOIN lanes l ON l.lane = o.lane
        JOIN serial_keys k ON k.digest = o.serial_digest AND k.seq = o.seq
        WHERE o.seq = ?1";

    const BLOCKED_BY: &str = r"
        SELECT b.seq, b.operation
        FROM blocked_keys b
        JOIN serial_keys k ON k.digest = b.digest AND k.seq = b.seq
        WHERE b.digest = ?";

    const BLOCKED_GONE: &str = r"DELETE FROM blocked_keys WHERE digest = ?";
    const HOLDER_GONE: &str = r"DELETE FROM serial_keys WHERE digest = ?";
    /// Operations whose delay is over, and whether another one holds their key.
    const DELAY_OVER: &str = r"
        SELECT w.seq, w.serial_digest AS digest, k.seq AS holder
        FROM waiting w
        LEFT JOIN serial_keys k ON k.digest = w.serial_digest
        WHERE w.delayed_until <= ?1
        ORDER BY w.delayed_until, w.seq
        LIMIT ?2";

    const BEHIND_HOLDER: &str = r"
        UPDATE waiting
        SET delayed_until = NULL, sequence = sequence + 1
        WHERE seq = ?1 AND delayed_until IS NOT NULL
        RETURNING sequence, (SELECT id FROM operations o WHERE o.seq = waiting.seq) AS id";

    const IS_DELAY_OVER: &str = r"SELECT seq FROM waiting WHERE delayed_until <= ? LIMIT 1";
}

/// Keeps the key of an operation that failed, if it holds it.
pub(crate) fn block(
    writing: &mut SqliteTransaction,
    seq: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let bind = |values: &mut crate::db::sqlite::writer::Values<'_, '_>| {
        values.put(seq).put(at.as_micros());
    };
    writing.writer.run(BLOCKED, bind).map(drop)
}

/// Lets a new operation have a key that the one blocks which it repeats; false if that
/// one does not block it.
pub(crate) fn passes_on(
    writing: &mut SqliteTransaction,
    digest: [u8; 16],
    operation: &NewOperation,
) -> Result<bool, LedgerError> {
    let Some(former) = operation.retry_of.map(|retry| retry.of) else { return Ok(false) };
    let Some(row) = blocker(writing, digest)? else { return Ok(false) };
    if octets(&row, "operation")? != former.as_bytes() {
        return Ok(false);
    }
    // Its holder is written with the rest of the batch.
    for sql in [BLOCKED_GONE, HOLDER_GONE] {
        writing.writer.run(sql, |values| {
            values.put(digest);
        })?;
    }
    Ok(true)
}

pub(crate) fn unblock(
    writing: &mut SqliteTransaction,
    name: SerialName,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Unblocked, LedgerError> {
    let SerialName(digest) = name;
    let Some(row) = blocker(writing, digest)? else { return Ok(Unblocked::NotBlocked) };
    writing.writer.run(BLOCKED_GONE, |values| {
        values.put(digest);
    })?;
    promote(writing, number(&row, "seq")?, digest, now, effects).map(Unblocked::Done)
}

fn blocker(
    writing: &mut SqliteTransaction,
    digest: [u8; 16],
) -> Result<Option<crate::db::sqlite::writer::Row>, LedgerError> {
    writing.writer.one(BLOCKED_BY, |values| {
        values.put(digest);
    })
}

/// Lets operations go whose delay is over: the first of a free key, and all others behind it.
pub(crate) fn release_delayed(
    writing: &mut SqliteTransaction,
    limit: usize,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<usize, LedgerError> {
    let over = writing.writer.all(DELAY_OVER, |values| {
        values.put(now.as_micros()).put(limit as i64);
    })?;
    let mut events = Vec::new();
    let mut seen = HashSet::new();
    for row in &over {
        let digest: [u8; 16] = exactly(row, "digest")?.unwrap_or_default();
        if seen.insert(digest) && maybe_number::<i64>(row, "holder")?.is_none() {
            go_next(writing, digest, now, effects)?;
        }
        let seq = number(row, "seq")?;
        let behind = writing.writer.one(BEHIND_HOLDER, |values| {
            values.put(seq);
        })?;
        if let Some(behind) = behind {
            effects.released.push(id(&behind, "id")?);
            let sequence = number(&behind, "sequence")?;
            events.push(EventRow::plain(seq, sequence, now, EventKind::Waiting));
        }
    }
    writing.writer.events(&events)?;
    Ok(over.len())
}

pub(crate) async fn is_delay_over(reader: &Sqlite, now: Timestamp) -> Result<bool, LedgerError> {
    let query = sqlx::query(IS_DELAY_OVER).bind(now.as_micros());
    Ok(query
        .fetch_optional(&mut *reader.readers.acquire().await?)
        .await
        .map_err(trouble)?
        .is_some())
}
