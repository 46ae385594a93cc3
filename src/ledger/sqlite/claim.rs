//! Handing operations out: moving their rows, and making the leases.

use super::Writing;
use super::rows::{
    Carried, carried, continuation, damaged, leased, maybe_time, number, ready_row, running_row,
    waiting_row,
};
use super::settle::{EventRow, READY_GONE, RUNNING, RunningRow};
use super::writer::Row;
use crate::domain::Timestamp;
use crate::domain::operation::{Continuation, Lane};
use crate::ledger::error::LedgerError;
use crate::ledger::fleet::Dead;
use crate::ledger::fleet::LeaseKey;
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Claimed, Held, Leased, Want};

const WORK: &str = "SELECT o.seq, o.id, o.octets, o.accepted_at, o.route, o.method, o.target, o.task, o.delivery, o.timeout_us, o.deadline_at, \
     o.retry_attempts, o.retry_min_us, o.retry_max_us, o.wait_us, o.on_failure, o.recheck, o.success, o.retry_statuses, o.upstream_key, o.serial_digest, o.client_reference, \
     q.fields, q.body, q.body_key, q.body_length, c.fields AS credentials FROM operations o \
     LEFT JOIN requests q ON q.seq = o.seq LEFT JOIN credentials c ON c.seq = o.seq WHERE o.seq = ?";

/// An operation on its way out.
struct Out {
    lane: Lane,
    carried: Carried,
    held: Held,
    continuation: Option<Continuation>,
    cancel_asked: bool,
}

pub(super) fn claim(writing: &mut Writing, wants: &[Want], now: Timestamp) -> Batch<Claimed> {
    let mut claimed = Vec::with_capacity(wants.len());
    for want in wants {
        let lane = writing.book.number(&want.lane)?;
        let rows = writing.writer.all(
            "SELECT seq, attempts, resumes, rescues, refusals, contact, last_try, token, sequence, started_at, percent, message \
             FROM ready WHERE lane = ? AND due_at <= ? ORDER BY due_at, seq LIMIT ?",
            |values| {
                values.put(lane).put(now.as_micros()).put(want.limit as i64);
            },
        )?;
        let leased = begin(writing, &rows, &want.lane, now)?;
        let next_due = next_due(writing, lane)?;
        claimed.push(Claimed { lane: want.lane.clone(), leased, next_due });
    }
    Ok(claimed)
}

/// Moves ready rows to running, as the next attempt of each.
fn begin(writing: &mut Writing, ready: &[Row], lane: &Lane, now: Timestamp) -> Batch<Leased> {
    let (place, node) = (writing.book.number(lane)?, writing.book.incarnation);
    let mut running = Vec::with_capacity(ready.len());
    for row in ready {
        let carried = Carried::of(row)?.begun(now);
        running.push(RunningRow {
            seq: number(row, "seq")?,
            lane: place,
            node,
            since: now,
            carried,
        });
    }
    let events: Vec<_> = running.iter().map(RunningRow::started).collect();
    run(writing, &running, &events)?;
    hand_out(writing, running.into_iter().map(|row| (row.seq, out(lane, row.carried))).collect())
}

/// Moves rows from ready to running.
fn run(
    writing: &mut Writing,
    running: &[RunningRow],
    events: &[EventRow],
) -> Result<(), LedgerError> {
    let writer = &mut writing.writer;
    writer.each(READY_GONE, running, |row, values| {
        values.put(row.seq);
    })?;
    writer.each(RUNNING, running, |row, values| row.put(values))?;
    writer.events(events)
}

fn out(lane: &Lane, carried: Carried) -> Out {
    Out {
        lane: lane.clone(),
        carried,
        held: Held::Running,
        continuation: None,
        cancel_asked: false,
    }
}

fn next_due(writing: &mut Writing, lane: i64) -> Result<Option<Timestamp>, LedgerError> {
    let row = writing.writer.one(
        "SELECT due_at FROM ready WHERE lane = ? ORDER BY due_at, seq LIMIT 1",
        |values| {
            values.put(lane);
        },
    )?;
    row.as_ref().map_or(Ok(None), |row| maybe_time(row, "due_at"))
}

/// Reads the work of operations and makes their leases, in the order given.
fn hand_out(writing: &mut Writing, outs: Vec<(i64, Out)>) -> Batch<Leased> {
    let rows = writing.writer.all_of_each(WORK, &outs, |(seq, _), values| {
        values.put(seq);
    })?;
    if rows.len() < outs.len() {
        return Err(damaged("an operation that was handed out is missing"));
    }
    let book = &writing.book;
    let lease = |((_, out), row): ((i64, Out), &Row)| {
        leased(
            row,
            out.lane,
            &out.carried,
            out.held,
            out.continuation,
            out.cancel_asked,
            &book.sealer,
        )
    };
    outs.into_iter().zip(&rows).map(lease).collect()
}

const FOLLOWED: &str = concat!(
    "UPDATE waiting SET token = token + 1, due_at = ? WHERE seq IN \
     (SELECT seq FROM waiting WHERE lane = ? AND due_at <= ? ORDER BY due_at, seq LIMIT ?) RETURNING ",
    waiting_row!("")
);

pub(super) fn claim_waiting(
    writing: &mut Writing,
    wants: &[Want],
    now: Timestamp,
    visible_again: Timestamp,
) -> Batch<Leased> {
    let mut rows = Vec::new();
    for want in wants {
        let lane = writing.book.number(&want.lane)?;
        rows.extend(writing.writer.all(FOLLOWED, |values| {
            values.put(visible_again.as_micros()).put(lane);
            values.put(now.as_micros()).put(want.limit as i64);
        })?);
    }
    waiting(writing, &rows)
}

const OVERDUE: &str = concat!(
    "UPDATE waiting SET token = token + 1, deadline_at = ? WHERE seq IN \
     (SELECT seq FROM waiting WHERE deadline_at <= ? ORDER BY deadline_at, seq LIMIT ?) RETURNING ",
    waiting_row!("")
);

pub(super) fn claim_overdue(
    writing: &mut Writing,
    limit: usize,
    now: Timestamp,
    visible_again: Timestamp,
) -> Batch<Leased> {
    let rows = writing.writer.all(OVERDUE, |values| {
        values.put(visible_again.as_micros()).put(now.as_micros()).put(limit as i64);
    })?;
    waiting(writing, &rows)
}

/// Makes the leases of rows that stay in `waiting`.
fn waiting(writing: &mut Writing, rows: &[Row]) -> Batch<Leased> {
    let mut outs = Vec::with_capacity(rows.len());
    for row in rows {
        let lane = writing.book.lane(number(row, "lane")?)?;
        let out = Out {
            held: Held::Waiting,
            continuation: continuation(row, &writing.book.sealer)?,
            ..out(&lane, Carried::of(row)?)
        };
        outs.push((number(row, "seq")?, out));
    }
    hand_out(writing, outs)
}

pub(super) fn claim_orphans(
    writing: &mut Writing,
    dead: &[Dead],
    limit: usize,
    now: Timestamp,
) -> Batch<Leased> {
    let node = writing.book.incarnation;
    let dead: Vec<_> = dead.iter().map(|dead| dead.incarnation).collect();
    let dead = format!("{dead:?}");
    let rows = writing.writer.all(
        concat!(
            "UPDATE running SET token = token + 1, node = ?, since = ?, taken_over = 1 WHERE seq IN \
             (SELECT seq FROM running WHERE node IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?) RETURNING ",
            running_row!("")
        ),
        |values| {
            values.put(node).put(now.as_micros()).put(&dead).put(limit as i64);
        },
    )?;
    still_running(writing, &rows)
}

pub(super) fn reclaim(
    writing: &mut Writing,
    lost: &[LeaseKey],
    begun: bool,
    now: Timestamp,
) -> Batch<Leased> {
    let node = writing.book.incarnation;
    let rows = writing.writer.all_of_each(
        concat!(
            "UPDATE running SET token = token + 1, since = ?, taken_over = max(taken_over, ?) \
             WHERE seq = ? AND token = ? AND node = ? RETURNING ",
            running_row!("")
        ),
        lost,
        |key, values| {
            values.put(now.as_micros()).put(i64::from(begun));
            values.put(key.seq).put(key.token).put(node);
        },
    )?;
    still_running(writing, &rows)
}

/// Hands out rows that stay where they are.
fn still_running(writing: &mut Writing, rows: &[Row]) -> Batch<Leased> {
    let mut outs = Vec::with_capacity(rows.len());
    for row in rows {
        let lane = writing.book.lane(number(row, "lane")?)?;
        let out = Out {
            cancel_asked: number::<i64>(row, "cancel")? > 0,
            ..out(&lane, Carried::of(row)?)
        };
        outs.push((number(row, "seq")?, out));
    }
    hand_out(writing, outs)
}

pub(super) fn claim_expired(
    writing: &mut Writing,
    lane: &Lane,
    limit: usize,
    now: Timestamp,
) -> Batch<Leased> {
    let (place, node) = (writing.book.number(lane)?, writing.book.incarnation);
    let rows = writing.writer.all(
        concat!(
            "SELECT ",
            ready_row!("r."),
            " FROM ready r JOIN operations o ON o.seq = r.seq WHERE r.lane = ? AND o.deadline_at <= ? LIMIT ?"
        ),
        |values| {
            values.put(place).put(now.as_micros()).put(limit as i64);
        },
    )?;
    let mut running = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut carried = Carried::of(row)?;
        carried.token += 1;
        running.push(RunningRow {
            seq: number(row, "seq")?,
            lane: place,
            node,
            since: now,
            carried,
        });
    }
    run(writing, &running, &[])?;
    hand_out(writing, running.into_iter().map(|row| (row.seq, out(lane, row.carried))).collect())
}
