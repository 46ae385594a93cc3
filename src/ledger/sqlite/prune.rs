//! Letting go of what is over: first request and result, later the whole operation.

use super::Writing;
use super::rows::{
    TAG_SEPARATOR, damaged, maybe_number, maybe_text, maybe_time, number, text, time,
};
use super::writer::Values;
use crate::domain::delivery::{LOOKED_AT_AGAIN, RESULT_KEPT};
use crate::domain::pruning::{MOST_OCTETS, Portion};
use crate::domain::{OperationId, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::verbs::{Pruned, pieces_in};

/// The end of an operation that somebody is still to be told of, unless that is too long ago.
const UNSETTLED: &str = "SELECT x.finished_at FROM outcomes x WHERE x.seq = ? AND x.finished_at > ? AND EXISTS ( \
     SELECT 1 FROM messages m WHERE m.seq = x.seq AND (EXISTS (SELECT 1 FROM fan_outs f WHERE f.message = m.message) \
     OR EXISTS (SELECT 1 FROM deliveries v LEFT JOIN deliveries_ended e ON e.delivery = v.delivery \
     WHERE v.message = m.message AND e.delivery IS NULL)))";

/// What has expired, and about how many octets of bodies and timelines go with it.
const DUE: &str = "SELECT e.due_at, e.seq, e.kind, \
     min(coalesce(q.body_length, 0), ?3) + min(coalesce(r.body_length, 0), ?3) \
     + CASE e.kind WHEN 'operation' THEN coalesce(x.sequence, 0) * 256 ELSE 0 END AS octets \
     FROM (SELECT due_at, seq, kind FROM expiries WHERE due_at <= ?1 ORDER BY due_at, seq LIMIT ?2) AS e \
     LEFT JOIN requests q ON q.seq = e.seq LEFT JOIN results r ON r.seq = e.seq \
     LEFT JOIN outcomes x ON x.seq = e.seq ORDER BY e.due_at, e.seq";
/// Pieces of a body that go at once, where it has no more of them or the others follow later.
const PIECES_GONE: &str = "DELETE FROM pieces WHERE body = ?1 AND number < ?2 \
     AND NOT EXISTS (SELECT 1 FROM requests WHERE body_key = ?1) \
     AND NOT EXISTS (SELECT 1 FROM results WHERE body_key = ?1)";
const OTHERS_LATER: &str = "INSERT OR IGNORE INTO erasures (body) \
     SELECT p.body FROM pieces p WHERE p.body = ?1 AND p.number = ?2 \
     AND NOT EXISTS (SELECT 1 FROM requests WHERE body_key = ?1) \
     AND NOT EXISTS (SELECT 1 FROM results WHERE body_key = ?1)";
const ERASURE: &str = "SELECT body FROM erasures LIMIT 1";
const SOME_PIECES_GONE: &str = "DELETE FROM pieces WHERE body = ?1 AND number IN \
     (SELECT number FROM pieces WHERE body = ?1 ORDER BY number DESC LIMIT ?2)";
const ERASED: &str = "DELETE FROM erasures WHERE body = ?";

pub(super) fn prune(
    writing: &mut Writing,
    portion: Portion,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    let pieces = erase_some(writing, portion)?;
    if pieces > 0 {
        return Ok(Pruned { pieces, ..Pruned::default() });
    }
    let due = writing.writer.all(DUE, |values| {
        values.put(now.as_micros()).put(portion.rows as i64).put(MOST_OCTETS as i64);
    })?;
    let (mut pruned, mut octets) = (Pruned::default(), 0);
    for row in &due {
        octets += number::<u64>(row, "octets")?;
        if octets > portion.octets && pruned != Pruned::default() {
            break;
        }
        let seq = number(row, "seq")?;
        let due_at = time(row, "due_at")?;
        numbered(writing, "DELETE FROM expiries WHERE due_at = ?2 AND seq = ?1", seq, due_at)?;
        if text(row, "kind")? == "result" {
            if put_off(writing, seq, now)? {
                octets -= number::<u64>(row, "octets")?;
            } else {
                free_at(writing, seq, now)?;
                pruned.results += 1;
            }
        } else {
            remove(writing, seq)?;
            pruned.operations += 1;
        }
    }
    if pruned.operations > 0 {
        keep_last_place(writing)?;
    }
    Ok(pruned)
}

/// Deletes some pieces of a body that is too large to go at once; how many.
fn erase_some(writing: &mut Writing, portion: Portion) -> Result<u64, LedgerError> {
    let Some(row) = writing.writer.one(ERASURE, |_| {})? else { return Ok(0) };
    let body: i64 = number(&row, "body")?;
    let most = pieces_in(portion.octets);
    let gone = writing.writer.run(SOME_PIECES_GONE, |values| {
        values.put(body).put(most);
    })? as u64;
    if gone < most.unsigned_abs() {
        writing.writer.run(ERASED, |values| {
            values.put(body);
        })?;
    }
    Ok(gone.max(1))
}

/// Writes down how far places were handed out: the last one may have been removed, and what is
/// told of it may outlive it.
fn keep_last_place(writing: &mut Writing) -> Result<(), LedgerError> {
    let last = writing.next_seq - 1;
    let kept = "UPDATE ledger SET last_operation = ?";
    writing.writer.run(kept, |values| {
        values.put(last);
    })?;
    Ok(())
}

/// Keeps a result for a while whose deliveries are under way; false if nothing keeps it.
fn put_off(writing: &mut Writing, seq: i64, now: Timestamp) -> Result<bool, LedgerError> {
    let told = writing.writer.one(UNSETTLED, |values| {
        values.put(seq).put((now - RESULT_KEPT).as_micros());
    })?;
    let Some(row) = told else { return Ok(false) };
    let end = time(&row, "finished_at")? + RESULT_KEPT;
    let until = (now + LOOKED_AT_AGAIN).min(end);
    numbered(writing, "UPDATE outcomes SET expires_at = ?2 WHERE seq = ?1", seq, until)?;
    numbered(
        writing,
        "INSERT INTO expiries (due_at, seq, kind) VALUES (?2, ?1, 'result')",
        seq,
        until,
    )?;
    Ok(true)
}

pub(super) fn free(
    writing: &mut Writing,
    id: OperationId,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let row = writing.writer.one(
        "SELECT x.seq, x.expires_at, x.freed_at FROM outcomes x JOIN operations o ON o.seq = x.seq WHERE o.id = ?",
        |values| {
            values.put(id.as_bytes());
        },
    )?;
    let Some(row) = row else { return Ok(false) };
    if maybe_time(&row, "freed_at")?.is_some() {
        return Ok(true);
    }
    let seq: i64 = number(&row, "seq")?;
    numbered(
        writing,
        "DELETE FROM expiries WHERE due_at = ?2 AND seq = ?1",
        seq,
        time(&row, "expires_at")?,
    )?;
    free_at(writing, seq, now)?;
    Ok(true)
}

/// Frees request and result; the row stays until its own time has come.
fn free_at(writing: &mut Writing, seq: i64, now: Timestamp) -> Result<(), LedgerError> {
    erase_bodies(writing, seq)?;
    numbered(writing, "UPDATE outcomes SET freed_at = ?2 WHERE seq = ?1", seq, now)?;
    let retention = writing.book.retention;
    let ended = writing.writer.one("SELECT finished_at FROM outcomes WHERE seq = ?", |values| {
        values.put(seq);
    })?;
    let ended = ended.ok_or_else(|| damaged(format!("operation {seq} has not ended")))?;
    let due_at = time(&ended, "finished_at")? + retention.operation;
    numbered(
        writing,
        "INSERT INTO expiries (due_at, seq, kind) VALUES (?2, ?1, 'operation')",
        seq,
        due_at,
    )
}

fn numbered(
    writing: &mut Writing,
    sql: &'static str,
    seq: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let bind = |values: &mut Values<'_, '_>| {
        values.put(seq).put(at.as_micros());
    };
    writing.writer.run(sql, bind).map(drop)
}

/// Deletes request and result of an operation with all their pieces.
pub(super) fn erase_bodies(writing: &mut Writing, seq: i64) -> Result<(), LedgerError> {
    for sql in [
        "DELETE FROM requests WHERE seq = ? RETURNING body_key",
        "DELETE FROM results WHERE seq = ? RETURNING body_key",
    ] {
        let gone = writing.writer.one(sql, |values| {
            values.put(seq);
        })?;
        if let Some(row) = gone
            && let Some(body) = maybe_number(&row, "body_key")?
        {
            erase_pieces(writing, body)?;
        }
    }
    Ok(())
}

/// Deletes the pieces of a body, if nothing refers to it. Callers may be wrong about that. What
/// is too large to go at once goes with the next prunes.
pub(super) fn erase_pieces(writing: &mut Writing, body: i64) -> Result<(), LedgerError> {
    for sql in [PIECES_GONE, OTHERS_LATER] {
        writing.writer.run(sql, |values| {
            values.put(body).put(pieces_in(MOST_OCTETS));
        })?;
    }
    Ok(())
}

/// Lets go of an operation's idempotency key, if that is still its own.
pub(super) const KEY_GONE: &str = "DELETE FROM idempotency_keys WHERE seq = ?1 AND digest = (SELECT key_digest FROM operations WHERE seq = ?1)";

/// Leaves nothing of an operation.
fn remove(writing: &mut Writing, seq: i64) -> Result<(), LedgerError> {
    erase_bodies(writing, seq)?;
    erase_tags(writing, seq)?;
    for sql in [
        KEY_GONE,
        "DELETE FROM events WHERE seq = ?1",
        "DELETE FROM verdicts WHERE seq = ?1",
        "DELETE FROM outcomes WHERE seq = ?1",
        "DELETE FROM operations WHERE seq = ?1",
    ] {
        writing.writer.run(sql, |values| {
            values.put(seq);
        })?;
    }
    Ok(())
}

fn erase_tags(writing: &mut Writing, seq: i64) -> Result<(), LedgerError> {
    let row = writing.writer.one("SELECT tags FROM operations WHERE seq = ?", |values| {
        values.put(seq);
    })?;
    let tags = row.map_or(Ok(None), |row| maybe_text(&row, "tags"))?.unwrap_or_default();
    for tag in tags.split(TAG_SEPARATOR).filter(|tag| !tag.is_empty()) {
        writing.writer.run("DELETE FROM tags WHERE tag = ? AND seq = ?", |values| {
            values.put(tag).put(seq);
        })?;
    }
    Ok(())
}
