//! The deletion of finished operations: first request and result, later the whole operation.

use std::collections::HashSet;

use crate::db::postgres::arrays::{Statement, Values};
use crate::db::postgres::transaction::PgTransaction;
use crate::db::postgres::watermarks::Shelf;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{Pruned, pieces_in};
use crate::rows::{
    BindRow, ReadRow, TAG_SEPARATOR, as_micros, maybe_number, maybe_text, maybe_time, number, text,
    time,
};
use cloakroom_domain::pruning::{MOST_OCTETS, Portion};
use cloakroom_domain::webhooks::{LOOKED_AT_AGAIN, RESULT_KEPT};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    /// Differs from SQLite because several nodes prune: each takes rows that no other is taking.
    const DUE: &str = r"
        WITH due AS MATERIALIZED (
            SELECT due_at, seq, kind
            FROM expiries
            WHERE due_at >= $5 AND due_at <= $1
            ORDER BY due_at, seq
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ), weighed AS (
            SELECT d.due_at, d.seq, d.kind, x.finished_at, least(coalesce(q.body_length, 0),
                $4) + least(coalesce(r.body_length, 0), $4) + CASE d.kind WHEN 'operation'
                THEN coalesce(x.sequence, 0) * 256 ELSE 0 END AS octets
            FROM due d
            LEFT JOIN requests q ON q.seq = d.seq
            LEFT JOIN results r ON r.seq = d.seq
            LEFT JOIN outcomes x ON x.seq = d.seq
        ), summed AS (
            SELECT w.due_at, w.seq, w.octets, w.finished_at,
                sum(w.octets) OVER (ORDER BY w.due_at, w.seq) AS octets_so_far,
                row_number() OVER (ORDER BY w.due_at, w.seq) AS place
            FROM weighed w
        ) DELETE FROM expiries AS e USING summed AS s
        WHERE e.due_at = s.due_at
            AND e.seq = s.seq
            AND (s.place = 1 OR s.octets_so_far <= $3)
        RETURNING e.due_at, e.seq, e.kind, s.finished_at";

    /// Pieces of bodies that go at once, where a body has no more of them or the others follow later.
    const PIECES_GONE: &str = r"
        DELETE FROM pieces AS p
        WHERE p.body = ANY ($1)
            AND p.number < $2
            AND NOT EXISTS (SELECT 1 FROM requests q WHERE q.body_key = p.body)
            AND NOT EXISTS (SELECT 1 FROM results r WHERE r.body_key = p.body)";

    const OTHERS_LATER: &str = r"
        INSERT INTO erasures (body)
        SELECT p.body
        FROM pieces p
        WHERE p.body = ANY ($1)
            AND p.number = $2
            AND NOT EXISTS (SELECT 1 FROM requests q WHERE q.body_key = p.body)
            AND NOT EXISTS (SELECT 1 FROM results r WHERE r.body_key = p.body)
        RETURNING number";

    /// Differs from SQLite because several nodes prune: each takes a body that no other one is at. An
    /// old snapshot keeps those that are gone, so a look begins behind them. The last number that was
    /// given out tells how far it came where it found none.
    const ERASURE: &str = r"
        SELECT n.last_value AS last, e.number, e.body
        FROM erasures_number_seq AS n
        LEFT JOIN LATERAL (
            SELECT number, body
            FROM erasures
            WHERE number >= $1
            ORDER BY number
            LIMIT 1
            FOR UPDATE SKIP LOCKED
        ) AS e ON true";

    const SOME_PIECES_GONE: &str = r"
        DELETE FROM pieces
        WHERE body = $1 AND number = ANY (ARRAY (
            SELECT number FROM pieces WHERE body = $1 ORDER BY number DESC LIMIT $2
        ))
        RETURNING number";

    const ERASED: &str = r"DELETE FROM erasures WHERE number = $1";
    const FREED: &str = r"UPDATE outcomes SET freed_at = $2 WHERE seq = ANY ($1) RETURNING seq, finished_at";

    const LATER: &str = r"
        INSERT INTO expiries (due_at, seq, kind)
        SELECT finished_at + $2, seq, 'operation'
        FROM outcomes
        WHERE seq = ANY ($1)
        RETURNING due_at";

    /// The ends of operations that a receiver is still to be told of, unless that is too long ago.
    const UNSETTLED: &str = r"
        UPDATE outcomes AS x
        SET expires_at = least($3, x.finished_at + $4)
        WHERE x.seq = ANY ($1)
            AND x.finished_at > $2
            AND EXISTS ( SELECT 1 FROM messages m WHERE m.seq = x.seq AND (EXISTS (SELECT 1
                FROM fan_outs f WHERE f.message = m.message) OR EXISTS (
            SELECT 1
            FROM deliveries v
            LEFT JOIN deliveries_ended e ON e.delivery = v.delivery
            WHERE v.message = m.message AND e.delivery IS NULL
        )))
        RETURNING x.seq";

    const AGAIN: &str = r"
        INSERT INTO expiries (due_at, seq, kind)
        SELECT expires_at, seq, 'result'
        FROM outcomes
        WHERE seq = ANY ($1)";

    static TAGS_GONE: Statement = Statement::reading(
        r"DELETE FROM tags AS t USING (",
        "tn",
        ") AS gone (tag, seq) WHERE t.tag = gone.tag AND t.seq = gone.seq",
    );

    pub(crate) static KEYS_GONE: Statement = Statement::among(
        r"
        DELETE FROM idempotency_keys AS k USING operations o
        WHERE k.digest = o.key_digest AND k.seq = o.seq AND o.seq = ANY",
    );

    static EVENTS_GONE: Statement = Statement::among(r"DELETE FROM events WHERE seq = ANY");
    static VERDICTS_GONE: Statement = Statement::among(r"DELETE FROM verdicts WHERE seq = ANY");
    static OUTCOMES_GONE: Statement = Statement::among(r"DELETE FROM outcomes WHERE seq = ANY");
    static OPERATIONS_GONE: Statement = Statement::among(r"DELETE FROM operations WHERE seq = ANY");

    const KEPT: &str = r"
        SELECT x.seq, x.expires_at, x.freed_at
        FROM outcomes x
        JOIN operations o ON o.seq = x.seq
        WHERE o.id = $1
        FOR UPDATE OF x";

    const EXPIRY_GONE: &str = r"DELETE FROM expiries WHERE due_at = $2 AND seq = $1";

    const BODIES_GONE: &str = r"
        WITH request AS (DELETE FROM requests WHERE seq = ANY ($1) RETURNING body_key),
            result AS (DELETE FROM results WHERE seq = ANY ($1) RETURNING body_key)
        SELECT body_key
        FROM request
        WHERE body_key IS NOT NULL
        UNION ALL
        SELECT body_key
        FROM result
        WHERE body_key IS NOT NULL";

    const TAGS: &str = r"SELECT seq, tags FROM operations WHERE seq = ANY ($1) AND tags IS NOT NULL";
}

pub(crate) async fn prune(
    writing: &mut PgTransaction,
    portion: Portion,
    now: Timestamp,
) -> Result<Pruned, LedgerError> {
    let pieces = erase_some(writing, portion, now).await?;
    if pieces > 0 {
        return Ok(Pruned { pieces, ..Pruned::default() });
    }
    let values = Values::default().with(now.as_micros()).with(portion.rows as i64);
    let values = values.with(portion.octets as i64).with(MOST_OCTETS as i64);
    let low = writing.book.marks.begin(Shelf::Expiries, now);
    let due = writing.rows(DUE, values.with(low)).await?;
    // Each with whether its own time has come with that of its result.
    let (mut results, mut operations) = (Vec::new(), Vec::new());
    let mut last = None;
    for row in &due {
        let seq: i64 = number(row, "seq")?;
        last = last.max(Some(time(row, "due_at")?));
        // Nothing has ended that an entry without an end names, so nothing of it may go.
        let Some(finished_at) = maybe_time(row, "finished_at")? else { continue };
        match text(row, "kind")? {
            "result" => results.push((seq, finished_at + writing.book.retention.operation <= now)),
            _ => operations.push(seq),
        }
    }
    writing.book.marks.emptied(Shelf::Expiries, last.unwrap_or(now));
    let seqs: Vec<_> = results.iter().map(|(seq, _)| *seq).collect();
    let kept = put_off(writing, &seqs, now).await?;
    results.retain(|(seq, _)| !kept.contains(seq));
    operations.extend(results.iter().filter(|(_, over)| *over).map(|(seq, _)| *seq));
    let results: Vec<_> = results.iter().filter(|(_, over)| !over).map(|(seq, _)| *seq).collect();
    let (freed, removed) = (results.len() as u64, operations.len() as u64);
    let kept = due.len() as u64 - freed - removed;
    let pruned = Pruned { results: freed, operations: removed, pieces: 0, kept };
    free_at(writing, results, now).await?;
    remove(writing, operations).await?;
    Ok(pruned)
}

/// Deletes some pieces of a body that is too large to go at once; how many.
async fn erase_some(
    writing: &mut PgTransaction,
    portion: Portion,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    let low = writing.book.marks.begin(Shelf::Erasures, now);
    let Some(row) = writing.row(ERASURE, Values::default().with(low)).await? else {
        return Ok(0);
    };
    let place: Option<i64> = maybe_number(&row, "number")?;
    let reached = place.map_or_else(|| number(&row, "last"), Ok)?;
    writing.book.marks.emptied(Shelf::Erasures, Timestamp::from_micros(reached));
    let Some(place) = place else { return Ok(0) };
    let body: i64 = number(&row, "body")?;
    let most = pieces_in(portion.octets);
    let gone = writing.rows(SOME_PIECES_GONE, Values::default().with(body).with(most)).await?;
    let gone = gone.len() as u64;
    if gone < most.unsigned_abs() {
        writing.run(ERASED, Values::default().with(place)).await?;
    }
    Ok(gone.max(1))
}

/// Keeps results for a while whose deliveries are under way; says which.
async fn put_off(
    writing: &mut PgTransaction,
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

pub(crate) async fn free(
    writing: &mut PgTransaction,
    id: OperationId,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let row = writing.row(KEPT, Values::default().with(id.as_bytes().to_vec())).await?;
    let Some(row) = row else { return Ok(false) };
    if row.number("freed_at")?.is_some() {
        return Ok(true);
    }
    let (seq, expires_at): (i64, i64) = (number(&row, "seq")?, number(&row, "expires_at")?);
    writing.run(EXPIRY_GONE, Values::default().with(seq).with(expires_at)).await?;
    free_at(writing, vec![seq], now).await?;
    Ok(true)
}

/// Frees requests and results; the rows stay until their own time has come.
async fn free_at(
    writing: &mut PgTransaction,
    seqs: Vec<i64>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    if seqs.is_empty() {
        return Ok(());
    }
    erase_bodies(writing, seqs.clone()).await?;
    writing.run(FREED, Values::default().with(seqs.clone()).with(now.as_micros())).await?;
    let after = as_micros(writing.book.retention.operation);
    let later = writing.rows(LATER, Values::default().with(seqs).with(after)).await?;
    for row in &later {
        writing.book.marks.put(Shelf::Expiries, time(row, "due_at")?);
    }
    Ok(())
}

/// Deletes requests and results of operations with all their pieces.
pub(crate) async fn erase_bodies(
    writing: &mut PgTransaction,
    seqs: Vec<i64>,
) -> Result<(), LedgerError> {
    let gone = writing.rows(BODIES_GONE, Values::default().with(seqs)).await?;
    let bodies: Result<Vec<_>, _> = gone.iter().map(|row| number(row, "body_key")).collect();
    erase_pieces(writing, bodies?).await
}

/// Deletes the pieces of those bodies that nothing refers to. Callers may be wrong about that:
/// after an error at a COMMIT, its effect is unknown. What is too large to go at once
/// goes with the next prunes.
pub(crate) async fn erase_pieces(
    writing: &mut PgTransaction,
    bodies: Vec<i64>,
) -> Result<(), LedgerError> {
    if bodies.is_empty() {
        return Ok(());
    }
    let values = || Values::default().with(bodies.clone()).with(pieces_in(MOST_OCTETS));
    writing.run(PIECES_GONE, values()).await?;
    for row in &writing.rows(OTHERS_LATER, values()).await? {
        let place = Timestamp::from_micros(number(row, "number")?);
        writing.book.marks.put(Shelf::Erasures, place);
    }
    Ok(())
}

/// Leaves nothing of operations.
async fn remove(writing: &mut PgTransaction, seqs: Vec<i64>) -> Result<(), LedgerError> {
    if seqs.is_empty() {
        return Ok(());
    }
    erase_bodies(writing, seqs.clone()).await?;
    let tagged = writing.rows(TAGS, Values::default().with(seqs.clone())).await?;
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
