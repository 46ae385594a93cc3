//! The cancellation and the progress of an operation on PostgreSQL.

use std::time::Duration;

use sqlx::postgres::PgRow;

use crate::commit::effects::Effects;
use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::{Values, storable};
use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{Canceled, Freeing, ProgressReport, Progressed};
use crate::operations::ends::Finish;
use crate::operations::finish::postgres::finish;
use crate::rows::{
    EventRow, ReadRow, RunState, carried, damaged, exactly, id, maybe_time, number, ready_row,
    stored_message, waiting_row,
};
use crate::store::Batch;
use cloakroom_domain::operation::{EventKind, NextState, Status, UpstreamContact};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    const CALLED_OFF: &str = r"
        SELECT o.id
        FROM running u
        CROSS JOIN LATERAL (SELECT id FROM operations WHERE seq = u.seq LIMIT 1) AS o
        WHERE u.node = $1 AND u.cancel > 0";

    const OPERATION: &str = r"SELECT seq, octets, serial_digest FROM operations WHERE id = $1";
    const STATE: &str = r"SELECT state FROM outcomes WHERE seq = $1";
    const READY_GONE: &str = concat!(r"DELETE FROM ready WHERE seq = $1 RETURNING ", ready_row!(""));
    const WAITING_GONE: &str = concat!(r"DELETE FROM waiting WHERE seq = $1 RETURNING ", waiting_row!(""));
    const CANCEL_ASKED: &str = r"UPDATE running SET cancel = greatest(cancel, $2) WHERE seq = $1 RETURNING seq";

    const RUNNING: &str = r"
        SELECT u.seq, u.sequence, u.attempts, u.progress_at
        FROM running u
        WHERE u.seq = (SELECT seq FROM operations WHERE id = $1) AND u.attempts = $2
        FOR UPDATE OF u";

    const WAITING: &str = r"
        SELECT w.seq, w.sequence, w.attempts, (
            SELECT max(at) FROM events e WHERE e.seq = w.seq AND e.kind = 'progressed'
        ) AS progress_at
        FROM waiting w
        WHERE w.seq = (SELECT seq FROM operations WHERE id = $1)
            AND w.attempts = $2
            AND w.waiting_for = 'upstream'
        FOR UPDATE OF w";

    const RUNNING_TOLD: &str = r"
        UPDATE running
        SET sequence = $2, percent = coalesce($3, percent), message = coalesce($4, message),
            progress_at = $5
        WHERE seq = $1";

    const WAITING_TOLD: &str = r"
        UPDATE waiting
        SET sequence = $2, percent = coalesce($3, percent), message = coalesce($4, message)
        WHERE seq = $1 AND $5::bigint IS NOT NULL";
}

/// The least time between two progress reports that are kept.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often an operation is looked for that others move from state to state meanwhile.
const LOOKS: usize = 5;

pub(crate) async fn cancel(
    writing: &mut PgTransaction,
    id: OperationId,
    freeing: Freeing,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Canceled, LedgerError> {
    let found = writing.row(OPERATION, Values::default().with(id.as_bytes().to_vec())).await?;
    let Some(found) = found else { return Ok(Canceled::Unknown) };
    let (seq, serial) = (number(&found, "seq")?, exactly(&found, "serial_digest")?);
    let octets = number(&found, "octets")?;
    if let Some(digest) = serial {
        writing.lock(vec![digest]).await?;
    }
    // Differs from SQLite because others write too: the row may be gone from a table
    // before it is looked for there, and is then in another one.
    for _ in 0..LOOKS {
        if let Some(canceled) = look(writing, (seq, octets), serial, freeing, now, effects).await? {
            return Ok(canceled);
        }
    }
    Err(LedgerError::Contended(format!("operation {seq} never stands still")))
}

/// Calls an operation off where it is found; none if it was found nowhere.
async fn look(
    writing: &mut PgTransaction,
    (seq, octets): (i64, u64),
    serial: Option<[u8; 16]>,
    freeing: Freeing,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Option<Canceled>, LedgerError> {
    let ended = taken(writing, STATE, seq).await?;
    if let Some(row) = ended {
        let state = row.text("state")?.unwrap_or_default();
        return Ok(Some(match state.parse::<Status>().map_err(damaged)? {
            Status::Canceled => Canceled::Already,
            status => Canceled::TooLate(status),
        }));
    }
    if ask(writing, seq, freeing).await? {
        return Ok(Some(Canceled::Asked));
    }
    let ready = taken(writing, READY_GONE, seq).await?;
    let row = if let Some(row) = ready {
        let lane = number(&row, "lane")?;
        writing.learn_lanes([lane]).await?;
        effects.unqueued.push(writing.lane(lane)?);
        row
    } else {
        let Some(row) = taken(writing, WAITING_GONE, seq).await? else { return Ok(None) };
        if exactly::<16>(&row, "serial_digest")?.is_some() {
            let lane = number(&row, "lane")?;
            writing.learn_lanes([lane]).await?;
            effects.unkeyed.push(writing.lane(lane)?);
        }
        effects.waiting -= 1;
        row
    };
    let lane = number(&row, "lane")?;
    writing.learn_lanes([lane]).await?;
    effects.ended.push((writing.lane(lane)?, octets));
    call_off(writing, &row, seq, serial, freeing == Freeing::Free, now, effects).await?;
    Ok(Some(Canceled::Done))
}

/// Leaves word for the node that carries the operation out; false if none does.
async fn ask(writing: &mut PgTransaction, seq: i64, freeing: Freeing) -> Result<bool, LedgerError> {
    let wish: i64 = match freeing {
        Freeing::Keep => 1,
        Freeing::Free => 2,
    };
    let asked = writing.row(CANCEL_ASKED, Values::default().with(seq).with(wish)).await?;
    Ok(asked.is_some())
}

/// Ends an operation that no node is carrying out.
async fn call_off(
    writing: &mut PgTransaction,
    row: &PgRow,
    seq: i64,
    serial: Option<[u8; 16]>,
    freed: bool,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), LedgerError> {
    let mut carried = RunState::of(row).unwrap_or_else(|_| RunState::salvaged(row));
    carried.sequence += 1;
    let attempt = carried.counts.attempts;
    let event =
        EventRow { attempt, ..EventRow::plain(seq, carried.sequence, now, EventKind::Canceled) };
    writing.events(&[event]);
    let (answer, blocks) = (None, false);
    let frees_key = carried.counts.contact == UpstreamContact::Nothing;
    let next = NextState::Canceled;
    let end = Finish { seq, at: now, next, carried, answer, serial, blocks, freed, frees_key };
    finish(writing, vec![end], effects).await
}

async fn taken(
    writing: &mut PgTransaction,
    sql: &'static str,
    seq: i64,
) -> Result<Option<PgRow>, LedgerError> {
    writing.row(sql, Values::default().with(seq)).await
}

pub(crate) async fn progress(
    writing: &mut PgTransaction,
    report: &ProgressReport,
) -> Result<Progressed, LedgerError> {
    // The upstream may still report after it answered 202 and goes on by itself.
    for (find, tell) in [(RUNNING, RUNNING_TOLD), (WAITING, WAITING_TOLD)] {
        let values =
            Values::default().with(report.id.as_bytes().to_vec()).with(i64::from(report.attempt));
        if let Some(row) = writing.row(find, values).await? {
            return keep(writing, tell, &row, report).await;
        }
    }
    Ok(Progressed::Over)
}

async fn keep(
    writing: &mut PgTransaction,
    tell: &'static str,
    row: &PgRow,
    report: &ProgressReport,
) -> Result<Progressed, LedgerError> {
    if maybe_time(row, "progress_at")?.is_some_and(|last| report.at < last + PROGRESS_INTERVAL) {
        return Ok(Progressed::TooSoon);
    }
    let seq: i64 = number(row, "seq")?;
    let message = stored_message(report, seq, &writing.book.sealer)?;
    let sequence = number::<u32>(row, "sequence")? + 1;
    let event = EventRow {
        attempt: number(row, "attempts")?,
        percent: report.percent,
        message: message.clone(),
        ..EventRow::plain(seq, sequence, report.at, EventKind::Progressed)
    };
    writing.events(&[event]);
    let values = Values::default()
        .with(seq)
        .with(i64::from(sequence))
        .with(report.percent.map(i64::from))
        .with(message.map(storable))
        .with(report.at.as_micros());
    writing.run(tell, values).await?;
    Ok(Progressed::Kept)
}

/// The operations that run on this node and are called off.
pub(crate) async fn called_off(reader: &Postgres) -> Batch<OperationId> {
    let values = Values::default().with(reader.book.incarnation).finish()?;
    let rows = reader.pool.read(CALLED_OFF, values).await?;
    rows.iter().map(|row| id(row, "id")).collect()
}
