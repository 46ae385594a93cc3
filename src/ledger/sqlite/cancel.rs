//! What is said about an operation from outside while it is under way: called off, or
//! how far it is.

use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Writing;
use super::batch::Script;
use super::finish::{Finish, finish};
use super::open::trouble;
use super::rows::{Carried, damaged, get, maybe_time};
use super::settle::{EVENTS, EventRow};
use crate::domain::operation::{EventKind, Next, Status};
use crate::domain::{OperationId, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::verbs::{Canceled, Freeing, Moved, ProgressReport, Progressed};

/// The least time between two progress reports that are kept.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn cancel(
    writing: &mut Writing,
    id: OperationId,
    freeing: Freeing,
    now: Timestamp,
    moved: &mut Moved,
) -> Result<Canceled, LedgerError> {
    let found = sqlx::query(
        "SELECT o.seq, o.serial_digest, x.state, u.seq IS NOT NULL AS running FROM operations o \
         LEFT JOIN outcomes x ON x.seq = o.seq LEFT JOIN running u ON u.seq = o.seq WHERE o.id = ?",
    )
    .bind(id.as_bytes().to_vec())
    .fetch_optional(writing.connection().await?)
    .await
    .map_err(trouble)?;
    let Some(found) = found else { return Ok(Canceled::Unknown) };
    let seq = get(&found, "seq")?;
    if let Some(state) = get::<Option<&str>>(&found, "state")? {
        return match state.parse::<Status>().map_err(damaged)? {
            Status::Canceled => Ok(Canceled::Already),
            status => Ok(Canceled::TooLate(status)),
        };
    }
    if get(&found, "running")? {
        return ask(writing, seq, freeing).await;
    }
    let serial = get::<Option<&[u8]>>(&found, "serial_digest")?.map(TryInto::try_into).transpose();
    call_off(writing, seq, serial.map_err(damaged)?, freeing, now, moved).await
}

/// Leaves word for whoever carries the operation out.
async fn ask(writing: &mut Writing, seq: i64, freeing: Freeing) -> Result<Canceled, LedgerError> {
    let wish = match freeing {
        Freeing::Keep => 1,
        Freeing::Free => 2,
    };
    sqlx::query("UPDATE running SET cancel = max(cancel, ?) WHERE seq = ?")
        .bind(wish)
        .bind(seq)
        .execute(writing.connection().await?)
        .await
        .map_err(trouble)?;
    Ok(Canceled::Asked)
}

/// Ends an operation that nobody is carrying out.
async fn call_off(
    writing: &mut Writing,
    seq: i64,
    serial: Option<[u8; 16]>,
    freeing: Freeing,
    now: Timestamp,
    moved: &mut Moved,
) -> Result<Canceled, LedgerError> {
    let ready = taken(writing, "DELETE FROM ready WHERE seq = ? RETURNING *", seq).await?;
    let row = if let Some(row) = ready {
        moved.unqueued.push(writing.book.lane(get(&row, "lane")?)?.clone());
        row
    } else {
        moved.waiting -= 1;
        let row = taken(writing, "DELETE FROM waiting WHERE seq = ? RETURNING *", seq).await?;
        row.ok_or_else(|| damaged(format!("operation {seq} is in no state")))?
    };
    let mut carried = Carried::of(&row)?;
    carried.sequence += 1;
    let attempt = carried.counts.attempts;
    let event =
        EventRow { attempt, ..EventRow::plain(seq, carried.sequence, now, EventKind::Canceled) };
    tell(writing, event).await?;
    let freed = freeing == Freeing::Free;
    let end = Finish { seq, at: now, next: Next::Canceled, carried, answer: None, serial, freed };
    finish(writing, Script::default(), vec![end], moved).await?;
    Ok(Canceled::Done)
}

async fn taken(
    writing: &mut Writing,
    sql: &'static str,
    seq: i64,
) -> Result<Option<SqliteRow>, LedgerError> {
    sqlx::query(sql).bind(seq).fetch_optional(writing.connection().await?).await.map_err(trouble)
}

pub(super) async fn progress(
    writing: &mut Writing,
    report: &ProgressReport,
) -> Result<Progressed, LedgerError> {
    // The upstream may still report after it answered 202 and goes on by itself.
    for (table, sql) in [("running", RUNNING), ("waiting", WAITING)] {
        let row = sqlx::query(sql)
            .bind(report.id.as_bytes().to_vec())
            .bind(report.attempt)
            .fetch_optional(writing.connection().await?)
            .await
            .map_err(trouble)?;
        if let Some(row) = row {
            return keep(writing, table, &row, report).await;
        }
    }
    Ok(Progressed::Over)
}

const RUNNING: &str = "SELECT u.seq, u.sequence, u.attempts, u.progress_at FROM running u \
     JOIN operations o ON o.seq = u.seq WHERE o.id = ? AND u.attempts = ?";
const WAITING: &str = "SELECT w.seq, w.sequence, w.attempts, \
     (SELECT max(at) FROM events e WHERE e.seq = w.seq AND e.kind = 'progressed') AS progress_at FROM waiting w \
     JOIN operations o ON o.seq = w.seq WHERE o.id = ? AND w.attempts = ? AND w.waiting_for = 'upstream'";

async fn keep(
    writing: &mut Writing,
    table: &'static str,
    row: &SqliteRow,
    report: &ProgressReport,
) -> Result<Progressed, LedgerError> {
    if maybe_time(row, "progress_at")?.is_some_and(|last| report.at < last + PROGRESS_INTERVAL) {
        return Ok(Progressed::TooSoon);
    }
    let seq: i64 = get(row, "seq")?;
    let sequence = row.try_get::<u32, _>("sequence").map_err(damaged)? + 1;
    let event = EventRow {
        attempt: get(row, "attempts")?,
        percent: report.percent,
        message: report.message.clone(),
        ..EventRow::plain(seq, sequence, report.at, EventKind::Progressed)
    };
    tell(writing, event).await?;
    let update = match table {
        "running" => {
            "UPDATE running SET sequence = ?1, percent = coalesce(?2, percent), message = coalesce(?3, message), \
             progress_at = ?4 WHERE seq = ?5"
        }
        _ => {
            "UPDATE waiting SET sequence = ?1, percent = coalesce(?2, percent), message = coalesce(?3, message) \
             WHERE seq = ?5 AND ?4 IS NOT NULL"
        }
    };
    sqlx::query(update)
        .bind(sequence)
        .bind(report.percent)
        .bind(report.message.clone())
        .bind(report.at.as_micros())
        .bind(seq)
        .execute(writing.connection().await?)
        .await
        .map_err(trouble)?;
    Ok(Progressed::Kept)
}

async fn tell(writing: &mut Writing, event: EventRow) -> Result<(), LedgerError> {
    let mut script = Script::default();
    script.add(&EVENTS, &[event], EventRow::put);
    writing.defer(script).await
}
