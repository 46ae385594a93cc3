//! The end of an operation: its outcome, its result, what is erased, and who goes next.

use super::Writing;
use super::batch::{Script, Statement};
use super::open::trouble;
use super::prune;
use super::rows::{Carried, get, id, put_body, time};
use super::settle::{EVENTS, EventRow, READY, ReadyRow, book};
use crate::domain::Timestamp;
use crate::domain::operation::{Body, EventKind};
pub(super) use crate::ledger::ends::Finish;
use crate::ledger::error::LedgerError;
use crate::ledger::verbs::{Moved, Retention};

static OUTCOMES: Statement = Statement::insert(
    "INSERT INTO outcomes (seq, state, finished_at, expires_at, freed_at, attempts, resumes, rescues, refusals, \
     sequence, started_at, percent, message, response_status, created_location, error_code, error_cause, error_status) \
    ",
    18,
);
static RESULTS: Statement =
    Statement::insert("INSERT INTO results (seq, fields, body, body_key, body_length)", 5);
static EXPIRIES: Statement = Statement::insert("INSERT INTO expiries (due_at, seq, kind)", 3);
static CREDENTIALS_GONE: Statement = Statement::among("DELETE FROM credentials WHERE seq IN", "");

/// Runs what was written so far together with the ends of these operations.
pub(super) async fn finish(
    writing: &mut Writing,
    mut script: Script,
    finished: Vec<Finish>,
    moved: &mut Moved,
) -> Result<(), LedgerError> {
    write(&mut script, &finished, writing.book.retention);
    writing.defer(script).await?;
    for finish in &finished {
        if finish.freed {
            prune::erase_bodies(writing, finish.seq).await?;
            // Its result was never written, so nothing refers to the pieces.
            if let Some(Body::Chunked { key, .. }) = finish.answer.as_ref().map(|kept| &kept.body) {
                prune::erase_pieces(writing, key.0).await?;
            }
        }
        if let Some(digest) = finish.serial {
            promote(writing, finish.seq, digest, finish.at, moved).await?;
        }
    }
    Ok(())
}

fn write(script: &mut Script, finished: &[Finish], retention: Retention) {
    let answers: Vec<_> = finished
        .iter()
        .filter(|finish| !finish.freed)
        .filter_map(|finish| Some((finish.seq, finish.answer.as_ref()?)))
        .collect();
    let seqs: Vec<_> = finished.iter().map(|finish| finish.seq).collect();
    script
        .add(&OUTCOMES, finished, |finish, values| finish.put(finish.at + retention.result, values))
        .add(&RESULTS, &answers, |(seq, answer), values| {
            put_body(&answer.body, values.put(*seq).put(answer.fields.encode()));
        })
        .add(&EXPIRIES, finished, |finish, values| {
            let (after, kind) = match finish.freed {
                true => (retention.operation, "operation"),
                false => (retention.result, "result"),
            };
            values.put((finish.at + after).as_micros()).put(finish.seq).put(kind);
        })
        .add_numbers(&CREDENTIALS_GONE, &seqs);
}

/// Lets the next operation of a serial key go, if the one that ended held it.
async fn promote(
    writing: &mut Writing,
    ended: i64,
    digest: [u8; 16],
    now: Timestamp,
    moved: &mut Moved,
) -> Result<(), LedgerError> {
    let released = sqlx::query("DELETE FROM serial_keys WHERE digest = ? AND seq = ?")
        .bind(digest.to_vec())
        .bind(ended)
        .execute(writing.connection().await?)
        .await
        .map_err(trouble)?;
    if released.rows_affected() == 0 {
        return Ok(());
    }
    let next = sqlx::query(
        "SELECT w.*, o.id, o.due_at AS not_before FROM waiting w JOIN operations o ON o.seq = w.seq \
         WHERE w.serial_digest = ? ORDER BY w.seq LIMIT 1",
    )
    .bind(digest.to_vec())
    .fetch_optional(writing.connection().await?)
    .await
    .map_err(trouble)?;
    let Some(next) = next else { return Ok(()) };
    let (seq, lane) = (get::<i64>(&next, "seq")?, get::<i64>(&next, "lane")?);
    let due_at = time(&next, "not_before")?.max(now);
    let mut carried = Carried::of(&next)?;
    carried.sequence += 1;
    let event = EventRow::plain(seq, carried.sequence, now, EventKind::Released);
    moved.ready.push((book(writing).lane(lane)?.clone(), due_at));
    moved.waiting -= 1;
    moved.released.push(id(&next, "id")?);
    let connection = writing.connection().await?;
    sqlx::query("DELETE FROM waiting WHERE seq = ?")
        .bind(seq)
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    sqlx::query("INSERT INTO serial_keys (digest, seq) VALUES (?, ?)")
        .bind(digest.to_vec())
        .bind(seq)
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    let mut script = Script::default();
    script.add(&READY, &[ReadyRow { seq, lane, due_at, carried }], ReadyRow::put);
    script.add(&EVENTS, &[event], EventRow::put);
    writing.defer(script).await
}
