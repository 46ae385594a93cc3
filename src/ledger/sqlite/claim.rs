//! Handing operations out: moving their rows, and making the leases.

use std::collections::HashMap;

use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::Writing;
use super::batch::{Script, Statement};
use super::open::trouble;
use super::rows::{Carried, continuation, damaged, get, leased, maybe_time};
use super::settle::{EVENTS, EventRow, READY_GONE, RUNNING, RunningRow};
use crate::domain::Timestamp;
use crate::domain::operation::{Continuation, Lane};
use crate::ledger::error::LedgerError;
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Claimed, Held, Leased, Want};

static WORK: Statement = Statement::among(
    "SELECT o.seq, o.id, o.accepted_at, o.route, o.method, o.target, o.task, o.delivery, o.timeout_us, o.deadline_at, \
     o.retry_attempts, o.retry_min_us, o.retry_max_us, o.first_is_final, o.upstream_key, o.serial_digest, \
     q.fields, q.body, q.body_key, q.body_length, c.fields AS credentials FROM operations o \
     LEFT JOIN requests q ON q.seq = o.seq LEFT JOIN credentials c ON c.seq = o.seq WHERE o.seq IN",
    "",
);
/// An operation on its way out.
struct Out {
    lane: Lane,
    carried: Carried,
    held: Held,
    continuation: Option<Continuation>,
    cancel_asked: bool,
}

pub(super) async fn claim(writing: &mut Writing, wants: &[Want], now: Timestamp) -> Batch<Claimed> {
    let mut claimed = Vec::with_capacity(wants.len());
    for want in wants {
        let lane = writing.book.number(&want.lane)?;
        let rows = sqlx::query(
            "SELECT seq, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message \
             FROM ready WHERE lane = ? AND due_at <= ? ORDER BY due_at, seq LIMIT ?",
        )
        .bind(lane)
        .bind(now.as_micros())
        .bind(want.limit as i64)
        .fetch_all(writing.connection().await?)
        .await
        .map_err(trouble)?;
        let leased = begin(writing, &rows, &want.lane, now).await?;
        let next_due = next_due(writing, lane).await?;
        claimed.push(Claimed { lane: want.lane.clone(), leased, next_due });
    }
    Ok(claimed)
}

/// Moves ready rows to running, as the next attempt of each.
async fn begin(
    writing: &mut Writing,
    ready: &[SqliteRow],
    lane: &Lane,
    now: Timestamp,
) -> Batch<Leased> {
    let (number, node) = (writing.book.number(lane)?, writing.book.incarnation);
    let mut running = Vec::with_capacity(ready.len());
    for row in ready {
        let carried = Carried::of(row)?.begun(now);
        running.push(RunningRow { seq: get(row, "seq")?, lane: number, node, since: now, carried });
    }
    let events: Vec<_> = running.iter().map(RunningRow::started).collect();
    run(writing, &running, &events).await?;
    hand_out(writing, running.into_iter().map(|row| (row.seq, out(lane, row.carried))).collect())
        .await
}

/// Moves rows from ready to running.
async fn run(
    writing: &mut Writing,
    running: &[RunningRow],
    events: &[EventRow],
) -> Result<(), LedgerError> {
    let seqs: Vec<_> = running.iter().map(|row| row.seq).collect();
    let mut script = Script::default();
    script.add_numbers(&READY_GONE, &seqs).add(&RUNNING, running, RunningRow::put).add(
        &EVENTS,
        events,
        EventRow::put,
    );
    writing.defer(script).await
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

async fn next_due(writing: &mut Writing, lane: i64) -> Result<Option<Timestamp>, LedgerError> {
    let row = sqlx::query("SELECT due_at FROM ready WHERE lane = ? ORDER BY due_at, seq LIMIT 1")
        .bind(lane)
        .fetch_optional(writing.connection().await?)
        .await
        .map_err(trouble)?;
    row.as_ref().map_or(Ok(None), |row| maybe_time(row, "due_at"))
}

/// Reads the work of operations and makes their leases, in the order given.
async fn hand_out(writing: &mut Writing, outs: Vec<(i64, Out)>) -> Batch<Leased> {
    let seqs: Vec<_> = outs.iter().map(|(seq, _)| *seq).collect();
    let rows = WORK.numbers_in(writing, &seqs).await?;
    let mut by_seq = HashMap::with_capacity(rows.len());
    for row in &rows {
        by_seq.insert(get::<i64>(row, "seq")?, row);
    }
    let lease = |(seq, out): (i64, Out)| {
        let row = by_seq.get(&seq).ok_or_else(|| damaged(format!("operation {seq} is missing")))?;
        leased(*row, out.lane, &out.carried, out.held, out.continuation, out.cancel_asked)
    };
    outs.into_iter().map(lease).collect()
}

pub(super) async fn claim_waiting(
    writing: &mut Writing,
    limit: usize,
    now: Timestamp,
    visible_again: Timestamp,
) -> Batch<Leased> {
    let rows = sqlx::query(
        "UPDATE waiting SET token = token + 1, due_at = ? WHERE seq IN \
         (SELECT seq FROM waiting WHERE due_at <= ? ORDER BY due_at LIMIT ?) RETURNING *",
    )
    .bind(visible_again.as_micros())
    .bind(now.as_micros())
    .bind(limit as i64)
    .fetch_all(writing.connection().await?)
    .await
    .map_err(trouble)?;
    let mut outs = Vec::with_capacity(rows.len());
    for row in &rows {
        let lane = writing.book.lane(get(row, "lane")?)?.clone();
        let out = Out {
            held: Held::Waiting,
            continuation: continuation(row)?,
            ..out(&lane, Carried::of(row)?)
        };
        outs.push((get(row, "seq")?, out));
    }
    hand_out(writing, outs).await
}

/// The incarnations that own what runs.
pub(super) async fn owners(connection: &mut SqliteConnection) -> Batch<i64> {
    let rows = sqlx::query("SELECT DISTINCT node FROM running")
        .fetch_all(connection)
        .await
        .map_err(trouble)?;
    rows.iter().map(|row| get(row, "node")).collect()
}

pub(super) async fn claim_orphans(
    writing: &mut Writing,
    dead: &[i64],
    limit: usize,
    now: Timestamp,
) -> Batch<Leased> {
    let node = writing.book.incarnation;
    let rows = sqlx::query(
        "UPDATE running SET token = token + 1, node = ?, since = ? WHERE seq IN \
         (SELECT seq FROM running WHERE node IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?) RETURNING *",
    )
    .bind(node)
    .bind(now.as_micros())
    .bind(format!("{dead:?}"))
    .bind(limit as i64)
    .fetch_all(writing.connection().await?)
    .await
    .map_err(trouble)?;
    let mut outs = Vec::with_capacity(rows.len());
    for row in &rows {
        let lane = writing.book.lane(get(row, "lane")?)?.clone();
        let out =
            Out { cancel_asked: get::<i64>(row, "cancel")? > 0, ..out(&lane, Carried::of(row)?) };
        outs.push((get(row, "seq")?, out));
    }
    hand_out(writing, outs).await
}

pub(super) async fn claim_expired(
    writing: &mut Writing,
    lane: &Lane,
    limit: usize,
    now: Timestamp,
) -> Batch<Leased> {
    let (number, node) = (writing.book.number(lane)?, writing.book.incarnation);
    let rows = sqlx::query(
        "SELECT r.* FROM ready r JOIN operations o ON o.seq = r.seq WHERE r.lane = ? AND o.deadline_at <= ? LIMIT ?",
    )
    .bind(number)
    .bind(now.as_micros())
    .bind(limit as i64)
    .fetch_all(writing.connection().await?)
    .await
    .map_err(trouble)?;
    let mut running = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut carried = Carried::of(row)?;
        carried.token += 1;
        running.push(RunningRow { seq: get(row, "seq")?, lane: number, node, since: now, carried });
    }
    run(writing, &running, &[]).await?;
    hand_out(writing, running.into_iter().map(|row| (row.seq, out(lane, row.carried))).collect())
        .await
}
