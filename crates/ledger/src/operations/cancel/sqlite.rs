//! The cancellation and the progress of an operation on SQLite.

use std::time::Duration;

use crate::commit::effects::Effects;
use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{
    ReadRow, RunState, carried, damaged, exactly, maybe_text, maybe_time, number, ready_row,
    stored_message, waiting_row,
};
use crate::db::sqlite::writer::Row;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{Canceled, Freeing, ProgressReport, Progressed};
use crate::operations::finish::sqlite::{Finish, finish};
use crate::operations::settle::sqlite::EventRow;
use cloakroom_domain::operation::{EventKind, NextState, Status, UpstreamContact};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    const OPERATION: &str = r"
        SELECT o.seq, o.octets, o.serial_digest, x.state, u.seq IS NOT NULL AS running
        FROM operations o
        LEFT JOIN outcomes x ON x.seq = o.seq
        LEFT JOIN running u ON u.seq = o.seq
        WHERE o.id = ?";

    const CANCEL_ASKED: &str = r"UPDATE running SET cancel = max(cancel, ?) WHERE seq = ?";
    const READY_GONE: &str = concat!(r"DELETE FROM ready WHERE seq = ? RETURNING ", ready_row!(""));
    const WAITING_GONE: &str = concat!(r"DELETE FROM waiting WHERE seq = ? RETURNING ", waiting_row!(""));

    const RUNNING: &str = r"
        SELECT u.seq, u.sequence, u.attempts, u.progress_at
        FROM running u
        JOIN operations o ON o.seq = u.seq
        WHERE o.id = ? AND u.attempts = ?";

    const WAITING: &str = r"
        SELECT w.seq, w.sequence, w.attempts, (
            SELECT max(at) FROM events e WHERE e.seq = w.seq AND e.kind = 'progressed'
        ) AS progress_at
        FROM waiting w
        JOIN operations o ON o.seq = w.seq
        WHERE o.id = ? AND w.attempts = ? AND w.waiting_for = 'upstream'";

    const RUNNING_TOLD: &str = r"
        UPDATE running
        SET sequence = ?1, percent = coalesce(?2, percent), message = coalesce(?3, message),
            progress_at = ?4
        WHERE seq = ?5";

    const WAITING_TOLD: &str = r"
        UPDATE waiting
        SET sequence = ?1, percent = coalesce(?2, percent), message = coalesce(?3, message)
        WHERE seq = ?5 AND ?4 IS NOT NULL";
}

/// The least time between two progress reports that are kept.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn cancel(
    writing: &mut SqliteTransaction,
    id: OperationId,
    freeing: Freeing,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Canceled, LedgerError> {
    let found = writing.writer.one(OPERATION, |values| {
        values.put(id.as_bytes());
    })?;
    let Some(found) = found else { return Ok(Canceled::Unknown) };
    let seq = number(&found, "seq")?;
    if let Some(state) = maybe_text(&found, "state")? {
        return match state.parse::<Status>().map_err(damaged)? {
            Status::Canceled => Ok(Canceled::Already),
            status => Ok(Canceled::TooLate(status)),
        };
    }
    if found.flag("running")? {
        return ask(writing, seq, freeing);
    }
    let serial = exactly(&found, "serial_digest")?;
    let octets = number(&found, "octets")?;
    call_off(writing, (seq, octets), serial, freeing, now, effects)
}

/// Leaves word for the node that carries the operation out.
fn ask(
    writing: &mut SqliteTransaction,
    seq: i64,
    freeing: Freeing,
) -> Result<Canceled, LedgerError> {
    let wish = match freeing {
        Freeing::Keep => 1,
        Freeing::Free => 2,
    };
    writing.writer.run(CANCEL_ASKED, |values| {
        values.put(wish).put(seq);
    })?;
    Ok(Canceled::Asked)
}

/// Ends an operation that no node is carrying out.
fn call_off(
    writing: &mut SqliteTransaction,
    (seq, octets): (i64, u64),
    serial: Option<[u8; 16]>,
    freeing: Freeing,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Canceled, LedgerError> {
    let ready = taken(writing, READY_GONE, seq)?;
    let row = if let Some(row) = ready {
        effects.unqueued.push(writing.book.lane(number(&row, "lane")?)?);
        row
    } else {
        effects.waiting -= 1;
        let row = taken(writing, WAITING_GONE, seq)?;
        let row = row.ok_or_else(|| damaged(format!("operation {seq} is in no state")))?;
        if exactly::<16>(&row, "serial_digest")?.is_some() {
            effects.unkeyed.push(writing.book.lane(number(&row, "lane")?)?);
        }
        row
    };
    effects.ended.push((writing.book.lane(number(&row, "lane")?)?, octets));
    let mut carried = RunState::of(&row).unwrap_or_else(|_| RunState::salvaged(&row));
    carried.sequence += 1;
    let attempt = carried.counts.attempts;
    let event =
        EventRow { attempt, ..EventRow::plain(seq, carried.sequence, now, EventKind::Canceled) };
    tell(writing, &event)?;
    let freed = freeing == Freeing::Free;
    let (answer, blocks) = (None, false);
    let frees_key = carried.counts.contact == UpstreamContact::Nothing;
    let next = NextState::Canceled;
    let end = Finish { seq, at: now, next, carried, answer, serial, blocks, freed, frees_key };
    finish(writing, &[end], effects)?;
    Ok(Canceled::Done)
}

fn taken(
    writing: &mut SqliteTransaction,
    sql: &'static str,
    seq: i64,
) -> Result<Option<Row>, LedgerError> {
    writing.writer.one(sql, |values| {
        values.put(seq);
    })
}

pub(crate) fn progress(
    writing: &mut SqliteTransaction,
    report: &ProgressReport,
) -> Result<Progressed, LedgerError> {
    // The upstream may still report after it answered 202 and goes on by itself.
    for (table, sql) in [("running", RUNNING), ("waiting", WAITING)] {
        let row = writing.writer.one(sql, |values| {
            values.put(report.id.as_bytes()).put(report.attempt);
        })?;
        if let Some(row) = row {
            return keep(writing, table, &row, report);
        }
    }
    Ok(Progressed::Over)
}

fn keep(
    writing: &mut SqliteTransaction,
    table: &'static str,
    row: &Row,
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
    tell(writing, &event)?;
    let update = match table {
        "running" => RUNNING_TOLD,
        _ => WAITING_TOLD,
    };
    writing.writer.run(update, |values| {
        values.put(sequence).put(report.percent).put(message.as_deref());
        values.put(report.at.as_micros()).put(seq);
    })?;
    Ok(Progressed::Kept)
}

fn tell(writing: &mut SqliteTransaction, event: &EventRow) -> Result<(), LedgerError> {
    writing.writer.events(std::slice::from_ref(event))
}
