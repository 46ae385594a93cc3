//! The deletion of finished operations: first request and result, later the whole operation.
//!
//! A portion goes in runs of numbers that follow one another: what ended together was accepted
//! together, and a run costs a statement for each table instead of one for each operation.

use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{
    ReadRow, TAG_SEPARATOR, maybe_number, maybe_text, maybe_time, number, text, time,
};
use crate::db::sqlite::writer::{Row, Values};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{Pruned, pieces_in};
use cloakroom_domain::pruning::{MOST_OCTETS, Portion, runs};
use cloakroom_domain::webhooks::{LOOKED_AT_AGAIN, RESULT_KEPT};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    /// The end of an operation that a receiver is still to be told of, unless that is too long ago.
    const UNSETTLED: &str = r"
        SELECT x.finished_at
        FROM outcomes x
        WHERE x.seq = ?
            AND x.finished_at > ?
            AND EXISTS ( SELECT 1 FROM messages m WHERE m.seq = x.seq AND (EXISTS (SELECT 1
                FROM fan_outs f WHERE f.message = m.message) OR EXISTS (
            SELECT 1
            FROM deliveries v
            LEFT JOIN deliveries_ended e ON e.delivery = v.delivery
            WHERE v.message = m.message AND e.delivery IS NULL
        )))";

    /// What has expired, about how many octets of bodies and timelines go with it, and what lies
    /// elsewhere of it.
    const DUE: &str = r"
        SELECT e.due_at, e.seq, e.kind, x.finished_at, q.body_key AS request_body,
            r.body_key AS result_body, o.tags, o.key_digest IS NOT NULL AS keyed,
            EXISTS (SELECT 1 FROM messages m WHERE m.seq = e.seq) AS told,
            min(coalesce(q.body_length, 0), ?3) + min(coalesce(r.body_length, 0),
            ?3) + CASE e.kind WHEN 'operation' THEN coalesce(x.sequence, 0) * 256
            ELSE 0 END AS octets
        FROM (
            SELECT due_at, seq, kind
            FROM expiries
            WHERE due_at <= ?1
            ORDER BY due_at, seq
            LIMIT ?2
        ) AS e
        LEFT JOIN requests q ON q.seq = e.seq
        LEFT JOIN results r ON r.seq = e.seq
        LEFT JOIN outcomes x ON x.seq = e.seq
        LEFT JOIN operations o ON o.seq = e.seq
        ORDER BY e.due_at, e.seq";

    const EXPIRIES_GONE: &str = r"DELETE FROM expiries WHERE (due_at, seq) <= (?1, ?2)";

    /// Pieces of a body that go at once, where it has no more of them or the others follow later.
    const PIECES_GONE: &str = r"
        DELETE FROM pieces
        WHERE body = ?1
            AND number < ?2
            AND NOT EXISTS (SELECT 1 FROM requests WHERE body_key = ?1)
            AND NOT EXISTS (SELECT 1 FROM results WHERE body_key = ?1)";

    const OTHERS_LATER: &str = r"
        INSERT INTO erasures (body)
        SELECT p.body
        FROM pieces p
        WHERE p.body = ?1
            AND p.number = ?2
            AND NOT EXISTS (SELECT 1 FROM requests WHERE body_key = ?1)
            AND NOT EXISTS (SELECT 1 FROM results WHERE body_key = ?1)";

    const ERASURE: &str = r"SELECT number, body FROM erasures ORDER BY number LIMIT 1";

    const SOME_PIECES_GONE: &str = r"
        DELETE FROM pieces
        WHERE body = ?1 AND number IN (
            SELECT number FROM pieces WHERE body = ?1 ORDER BY number DESC LIMIT ?2
        )";

    const ERASED: &str = r"DELETE FROM erasures WHERE number = ?";
    const LAST_PLACE: &str = r"UPDATE ledger SET last_operation = ?";
    const EXPIRES_LATER: &str = r"UPDATE outcomes SET expires_at = ?2 WHERE seq = ?1";
    const RESULT_EXPIRY: &str = r"INSERT INTO expiries (due_at, seq, kind) VALUES (?2, ?1, 'result')";

    const KEPT: &str = r"
        SELECT x.seq, x.expires_at, x.freed_at
        FROM outcomes x
        JOIN operations o ON o.seq = x.seq
        WHERE o.id = ?";

    const EXPIRY_GONE: &str = r"DELETE FROM expiries WHERE due_at = ?2 AND seq = ?1";

    const BODIES: &str = r"
        SELECT body_key
        FROM requests
        WHERE seq = ?1 AND body_key IS NOT NULL
        UNION ALL
        SELECT body_key
        FROM results
        WHERE seq = ?1 AND body_key IS NOT NULL";

    /// Lets go of an operation's idempotency key, if that is still its own.
    pub(crate) const KEY_GONE: &str = r"
        DELETE FROM idempotency_keys
        WHERE seq = ?1 AND digest = (SELECT key_digest FROM operations WHERE seq = ?1)";

    const REQUESTS_GONE: &str = r"DELETE FROM requests WHERE seq BETWEEN ? AND ?";
    const RESULTS_GONE: &str = r"DELETE FROM results WHERE seq BETWEEN ? AND ?";
    const FREED: &str = r"UPDATE outcomes SET freed_at = ?3 WHERE seq BETWEEN ?1 AND ?2";

    const LATER: &str = r"
        INSERT INTO expiries (due_at, seq, kind)
        SELECT finished_at + ?3, seq, 'operation'
        FROM outcomes
        WHERE seq BETWEEN ?1 AND ?2";

    /// What there is of an operation by its number.
    const ALL_GONE: [&str; 6] = [
        REQUESTS_GONE,
        RESULTS_GONE,
        r"DELETE FROM events WHERE seq BETWEEN ? AND ?",
        r"DELETE FROM verdicts WHERE seq BETWEEN ? AND ?",
        r"DELETE FROM outcomes WHERE seq BETWEEN ? AND ?",
        r"DELETE FROM operations WHERE seq BETWEEN ? AND ?",
    ];

    const TAG_GONE: &str = r"DELETE FROM tags WHERE tag = ? AND seq = ?";
}

/// The part of a portion that goes in one way.
#[derive(Default)]
struct Part {
    seqs: Vec<i64>,
    /// Bodies that lie in pieces.
    bodies: Vec<i64>,
}

impl Part {
    fn add(&mut self, seq: i64, row: &Row) -> Result<(), LedgerError> {
        self.seqs.push(seq);
        for body in ["request_body", "result_body"] {
            self.bodies.extend(maybe_number::<i64>(row, body)?);
        }
        Ok(())
    }
}

/// Frees what has expired. On a disk that is full, what is kept for that makes room first.
pub(crate) fn prune_or_make_room(
    writing: &mut SqliteTransaction,
    portion: Portion,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    match prune_durably(writing, portion, now) {
        Err(LedgerError::Full) => {
            writing.reserve.give_up();
            // The log has a length of its own to give back, once the file has all that is in it.
            if let Err(error) = writing.writer.cut_log() {
                tracing::debug!(%error, "the log could not be cut on a full disk");
            }
            prune_durably(writing, Portion::SMALL, now)
        }
        pruned => pruned,
    }
}

pub(crate) fn prune(
    writing: &mut SqliteTransaction,
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
    let (mut freed, mut removed) = (Part::default(), Part::default());
    let (mut octets, mut kept, mut last) = (0, 0, None);
    for row in &due {
        let (seq, own) = (number(row, "seq")?, number::<u64>(row, "octets")?);
        let is_first = freed.seqs.is_empty() && removed.seqs.is_empty();
        if octets + own > portion.octets && !is_first {
            break;
        }
        last = Some((time(row, "due_at")?, seq));
        // Nothing has ended that an entry without an end names, so nothing of it may go.
        let Some(finished_at) = maybe_time(row, "finished_at")? else {
            kept += 1;
            continue;
        };
        let is_result = text(row, "kind")? == "result";
        if is_result && row.flag("told")? && put_off(writing, seq, now)? {
            kept += 1;
            continue;
        }
        octets += own;
        if is_result && finished_at + writing.book.retention.operation > now {
            freed.add(seq, row)?;
        } else {
            removed.add(seq, row)?;
            erase_elsewhere(writing, seq, row)?;
        }
    }
    if let Some((due_at, seq)) = last {
        writing.writer.run(EXPIRIES_GONE, |values| {
            values.put(due_at.as_micros()).put(seq);
        })?;
    }
    let pruned = Pruned {
        results: freed.seqs.len() as u64,
        operations: removed.seqs.len() as u64,
        pieces: 0,
        kept,
    };
    free_at(writing, freed, now)?;
    remove(writing, removed)?;
    Ok(pruned)
}

/// Deletes some pieces of a body that is too large to go at once; how many.
fn erase_some(writing: &mut SqliteTransaction, portion: Portion) -> Result<u64, LedgerError> {
    let Some(row) = writing.writer.one(ERASURE, |_| {})? else { return Ok(0) };
    let (place, body): (i64, i64) = (number(&row, "number")?, number(&row, "body")?);
    let most = pieces_in(portion.octets);
    let gone = writing.writer.run(SOME_PIECES_GONE, |values| {
        values.put(body).put(most);
    })? as u64;
    if gone < most.unsigned_abs() {
        writing.writer.run(ERASED, |values| {
            values.put(place);
        })?;
    }
    Ok(gone.max(1))
}

/// Writes down how far places were handed out: the last one may have been removed, and what is
/// told of it may outlive it.
fn keep_last_place(writing: &mut SqliteTransaction) -> Result<(), LedgerError> {
    let last = writing.next_seq - 1;
    let kept = LAST_PLACE;
    writing.writer.run(kept, |values| {
        values.put(last);
    })?;
    Ok(())
}

/// Keeps a result for a while whose deliveries are under way; false if nothing keeps it.
fn put_off(writing: &mut SqliteTransaction, seq: i64, now: Timestamp) -> Result<bool, LedgerError> {
    let told = writing.writer.one(UNSETTLED, |values| {
        values.put(seq).put((now - RESULT_KEPT).as_micros());
    })?;
    let Some(row) = told else { return Ok(false) };
    let end = time(&row, "finished_at")? + RESULT_KEPT;
    let until = (now + LOOKED_AT_AGAIN).min(end);
    numbered(writing, EXPIRES_LATER, seq, until)?;
    numbered(writing, RESULT_EXPIRY, seq, until)?;
    Ok(true)
}

pub(crate) fn free(
    writing: &mut SqliteTransaction,
    id: OperationId,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let row = writing.writer.one(KEPT, |values| {
        values.put(id.as_bytes());
    })?;
    let Some(row) = row else { return Ok(false) };
    if maybe_time(&row, "freed_at")?.is_some() {
        return Ok(true);
    }
    let seq: i64 = number(&row, "seq")?;
    let expires_at = time(&row, "expires_at")?;
    numbered(writing, EXPIRY_GONE, seq, expires_at)?;
    let bodies = bodies_of(writing, seq)?;
    free_at(writing, Part { seqs: vec![seq], bodies }, now)?;
    Ok(true)
}

/// Frees requests and results; the rows stay until their own time has come.
fn free_at(
    writing: &mut SqliteTransaction,
    mut part: Part,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let retention = i64::try_from(writing.book.retention.operation.as_micros()).unwrap_or(i64::MAX);
    for (first, last) in runs(&mut part.seqs) {
        delete_runs(writing, &[REQUESTS_GONE, RESULTS_GONE], first, last)?;
        for (sql, value) in [(FREED, now.as_micros()), (LATER, retention)] {
            writing.writer.run(sql, |values| {
                values.put(first).put(last).put(value);
            })?;
        }
    }
    part.bodies.into_iter().try_for_each(|body| erase_pieces(writing, body))
}

fn numbered(
    writing: &mut SqliteTransaction,
    sql: &'static str,
    seq: i64,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let bind = |values: &mut Values<'_, '_>| {
        values.put(seq).put(at.as_micros());
    };
    writing.writer.run(sql, bind).map(drop)
}

/// The bodies of an operation that lie in pieces.
fn bodies_of(writing: &mut SqliteTransaction, seq: i64) -> Result<Vec<i64>, LedgerError> {
    let rows = writing.writer.all(BODIES, |values| {
        values.put(seq);
    })?;
    rows.iter().map(|row| number(row, "body_key")).collect()
}

/// Deletes request and result of an operation with all their pieces.
pub(crate) fn erase_bodies(writing: &mut SqliteTransaction, seq: i64) -> Result<(), LedgerError> {
    let bodies = bodies_of(writing, seq)?;
    delete_runs(writing, &[REQUESTS_GONE, RESULTS_GONE], seq, seq)?;
    bodies.into_iter().try_for_each(|body| erase_pieces(writing, body))
}

/// Deletes what tables have of these operations, from the first to the last.
fn delete_runs(
    writing: &mut SqliteTransaction,
    tables: &[&'static str],
    first: i64,
    last: i64,
) -> Result<(), LedgerError> {
    for sql in tables {
        writing.writer.run(sql, |values| {
            values.put(first).put(last);
        })?;
    }
    Ok(())
}

/// Deletes the pieces of a body, if nothing refers to it. Callers may be wrong about that. What
/// is too large to go at once goes with the next prunes.
pub(crate) fn erase_pieces(writing: &mut SqliteTransaction, body: i64) -> Result<(), LedgerError> {
    for sql in [PIECES_GONE, OTHERS_LATER] {
        writing.writer.run(sql, |values| {
            values.put(body).put(pieces_in(MOST_OCTETS));
        })?;
    }
    Ok(())
}

/// Leaves nothing of operations.
fn remove(writing: &mut SqliteTransaction, mut part: Part) -> Result<(), LedgerError> {
    if part.seqs.is_empty() {
        return Ok(());
    }
    for (first, last) in runs(&mut part.seqs) {
        delete_runs(writing, &ALL_GONE, first, last)?;
    }
    part.bodies.into_iter().try_for_each(|body| erase_pieces(writing, body))?;
    keep_last_place(writing)
}

/// Deletes what refers to an operation by more than its number: its tags and its key.
fn erase_elsewhere(
    writing: &mut SqliteTransaction,
    seq: i64,
    row: &Row,
) -> Result<(), LedgerError> {
    if row.flag("keyed")? {
        writing.writer.run(KEY_GONE, |values| {
            values.put(seq);
        })?;
    }
    let tags = maybe_text(row, "tags")?.unwrap_or_default();
    for tag in tags.split(TAG_SEPARATOR).filter(|tag| !tag.is_empty()) {
        writing.writer.run(TAG_GONE, |values| {
            values.put(tag).put(seq);
        })?;
    }
    Ok(())
}

/// Prunes and commits: a full disk is often noticed only then. A prune is alone in its
/// transaction.
pub(crate) fn prune_durably(
    writing: &mut SqliteTransaction,
    portion: Portion,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    let pruned = prune(writing, portion, now)?;
    writing.writer.commit()?;
    Ok(pruned)
}
