//! The end of an operation: its outcome, its result, what is erased, and who goes next.

use crate::commit::effects::Effects;
use crate::db::postgres::arrays::{Statement, Values};
use crate::db::postgres::transaction::{PgTransaction, octets};
use crate::db::postgres::watermarks::Shelf;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::operations::ends::Finish;
use crate::operations::prune::postgres as prune;
use crate::operations::serial_keys::postgres as serial;
use crate::operations::settle::postgres::READY;
use crate::rows::{
    BindRow, EventRow, ReadyRow, RunState, carried, damaged, exactly, id, next_of_key, number,
    time, waited, waiting_row,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{EventKind, OperationBody};

statements! {
    static OUTCOMES: Statement = Statement::insert(
        r"INSERT INTO outcomes",
        r"seq, state, finished_at, expires_at, freed_at, attempts, resumes, rescues, refusals,
            contact, last_try, sequence, started_at, percent, message, response_status,
            response_framing, created_location, error_code, error_cause, error_status",
        "nwnnNcccccccnNTcTtTTN",
    );

    static RESULTS: Statement = Statement::insert(r"INSERT INTO results", "seq, fields, body, body_key, body_length", "nooNn");
    static EXPIRIES: Statement = Statement::insert(r"INSERT INTO expiries", "due_at, seq, kind", "nnw");
    static CREDENTIALS_GONE: Statement = Statement::among(r"DELETE FROM credentials WHERE seq = ANY");
    static WAITING_GONE: Statement = Statement::among(r"DELETE FROM waiting WHERE seq = ANY");

    /// Differs from SQLite because a batch is asked about at once: the first that waits for
    /// each of these keys.
    const NEXT: &str = concat!(
        r"SELECT ",
        waiting_row!("w."),
        r", w.delayed_until, w.id, w.not_before
        FROM UNNEST($1::bytea[], $2::bigint[]) AS freed (digest, now)
        CROSS JOIN LATERAL (SELECT ",
        waiting_row!("n."),
        r", n.delayed_until, o.id, o.due_at AS not_before
        FROM waiting n
        JOIN operations o ON o.seq = n.seq
        WHERE n.seq = ANY (ARRAY[",
        next_of_key!("freed.digest", "freed.now"),
        "]) ORDER BY coalesce(n.turn_at, o.accepted_at), n.seq LIMIT 1) AS w"
    );
}

/// Writes the ends of these operations down.
pub(crate) async fn finish(
    writing: &mut PgTransaction,
    finished: Vec<Finish>,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    write(writing, &finished)?;
    for finish in finished.iter().filter(|finish| finish.freed) {
        prune::erase_bodies(writing, vec![finish.seq]).await?;
        // Its result was never written, so nothing refers to the pieces.
        if let Some(OperationBody::Chunked { key, .. }) =
            finish.answer.as_ref().map(|kept| &kept.body)
        {
            prune::erase_pieces(writing, vec![key.0]).await?;
        }
    }
    promote(writing, &finished, effects).await
}

fn write(writing: &mut PgTransaction, finished: &[Finish]) -> Result<(), LedgerError> {
    let retention = writing.book.retention;
    let stored = |finish: &Finish| finish.stored(&writing.book.sealer);
    let stored = finished.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
    let ends: Vec<_> = finished.iter().zip(&stored).collect();
    let answers = ends.iter().filter(|(finish, _)| !finish.freed);
    let answers: Vec<_> =
        answers.filter_map(|(finish, stored)| Some((finish.seq, stored.as_ref()?))).collect();
    let seqs: Vec<_> = finished.iter().map(|finish| finish.seq).collect();
    for finish in finished {
        let after = if finish.freed { retention.operation } else { retention.result };
        writing.book.marks.put(Shelf::Expiries, finish.at + after);
    }
    let unheld: Vec<_> =
        finished.iter().filter(|finish| finish.frees_key).map(|finish| finish.seq).collect();
    writing
        .script
        .add(&OUTCOMES, &ends, |(finish, stored), cells| {
            finish.put(stored.as_ref(), finish.at + retention.result, cells);
        })
        .add(&RESULTS, &answers, |(seq, answer), cells| {
            answer.body.put(cells.number(*seq).octets(answer.fields.clone()));
        })
        .add(&EXPIRIES, finished, |finish, cells| {
            let (after, kind) = match finish.freed {
                true => (retention.operation, "operation"),
                false => (retention.result, "result"),
            };
            cells.number((finish.at + after).as_micros()).number(finish.seq).text(kind.to_owned());
        })
        .add_numbers(&prune::KEYS_GONE, &unheld)
        .add_numbers(&CREDENTIALS_GONE, &seqs);
    Ok(())
}

/// Lets the next operation of each serial key go that one of these held. The rows of the
/// keys are locked, so no operation can begin to wait for one unseen.
async fn promote(
    writing: &mut PgTransaction,
    finished: &[Finish],
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    let mut freed = Vec::new();
    for finish in finished {
        let Some(digest) = finish.serial else { continue };
        if finish.blocks {
            if writing.holds(digest, finish.seq) {
                serial::block(writing, finish.seq, finish.at);
            }
        } else if writing.release(digest, finish.seq) {
            freed.push((digest, finish.at));
        }
    }
    go_next(writing, &freed, effects).await
}

/// Gives locked serial keys that no operation holds to the first one that waits for each.
pub(crate) async fn go_next(
    writing: &mut PgTransaction,
    freed: &[([u8; 16], Timestamp)],
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    if freed.is_empty() {
        return Ok(());
    }
    let (digests, times): (Vec<_>, Vec<_>) =
        freed.iter().map(|(digest, now)| (*digest, now.as_micros())).unzip();
    let rows = writing.rows(NEXT, Values::default().with(octets(&digests)).with(times)).await?;
    let lanes: Result<Vec<_>, _> = rows.iter().map(|row| number(row, "lane")).collect();
    writing.learn_lanes(lanes?).await?;
    for row in &rows {
        let digest = exactly(row, "serial_digest")?;
        let ended = freed.iter().find(|(freed, _)| Some(*freed) == digest);
        let (digest, at) = ended.copied().ok_or_else(|| damaged("another key's operation"))?;
        let seq = number(row, "seq")?;
        writing.take(digest, seq);
        release(writing, row, seq, at, effects)?;
    }
    Ok(())
}

/// Moves one that waited for its key to ready.
fn release(
    writing: &mut PgTransaction,
    row: &sqlx::postgres::PgRow,
    seq: i64,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    let lane = number(row, "lane")?;
    let due_at = time(row, "not_before")?.max(now);
    let mut carried = RunState::of(row).unwrap_or_else(|_| RunState::salvaged(row));
    let told = waited(row)?.then_some(EventKind::Released);
    carried.sequence += u32::from(told.is_some());
    let event = told.map(|kind| EventRow::plain(seq, carried.sequence, now, kind));
    effects.ready.push((writing.lane(lane)?, due_at));
    effects.waiting -= 1;
    effects.unkeyed.push(writing.lane(lane)?);
    effects.released.push(id(row, "id")?);
    writing.script.add_numbers(&WAITING_GONE, &[seq]).add(
        &READY,
        &[ReadyRow { seq, lane, due_at, carried }],
        ReadyRow::put,
    );
    writing.events(event.as_slice());
    Ok(())
}
