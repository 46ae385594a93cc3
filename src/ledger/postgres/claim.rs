//! Handing operations out: moving their rows, and making the leases.

use std::collections::HashMap;

use sqlx::postgres::PgRow;

use super::batch::Values;
use super::settle::{EVENTS, RUNNING};
use super::writing::Writing;
use crate::domain::Timestamp;
use crate::domain::operation::{Continuation, Lane};
use crate::ledger::error::LedgerError;
use crate::ledger::fleet::Dead;
use crate::ledger::fleet::LeaseKey;
use crate::ledger::rows::{
    Carried, EventRow, RunningRow, continuation, damaged, leased, maybe_time, number, time,
};
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Claimed, Held, Leased, Want};

/// Differs from SQLite because others claim too: what another one is taking is passed
/// over, all lanes are asked at once, and none is walked from its very beginning.
const TAKEN: &str = "DELETE FROM ready WHERE seq = ANY (ARRAY (\
     SELECT r.seq FROM UNNEST($1::bigint[], $2::bigint[], $4::bigint[]) AS want (lane, most, low) CROSS JOIN LATERAL \
     (SELECT seq FROM ready WHERE lane = want.lane AND due_at >= want.low AND due_at <= $3 \
     ORDER BY due_at, seq LIMIT want.most \
     FOR UPDATE SKIP LOCKED) AS r)) RETURNING *";
pub(super) const HEADS: &str = "SELECT want.lane, head.due_at FROM UNNEST($1::bigint[], $2::bigint[]) AS want (lane, low) \
     LEFT JOIN LATERAL (SELECT due_at FROM ready WHERE lane = want.lane AND due_at >= want.low ORDER BY due_at, seq LIMIT 1) AS head ON true";
const WORK: &str = "SELECT o.seq, o.id, o.accepted_at, o.route, o.method, o.target, o.task, o.delivery, o.timeout_us, \
     o.deadline_at, o.retry_attempts, o.retry_min_us, o.retry_max_us, o.first_is_final, o.on_failure, o.recheck, o.upstream_key, \
     o.serial_digest, o.client_reference, q.fields, q.body, q.body_key, q.body_length, c.fields AS credentials FROM operations o \
     LEFT JOIN requests q ON q.seq = o.seq LEFT JOIN credentials c ON c.seq = o.seq WHERE o.seq = ANY ($1)";
const WAITING: &str = "UPDATE waiting SET token = token + 1, due_at = $1 WHERE seq = ANY (ARRAY (\
     SELECT seq FROM waiting WHERE due_at <= $2 ORDER BY due_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING *";
/// Differs from SQLite because who counts as dead may come back: its row is locked, so that
/// it either has beaten before, and keeps all, or beats after, and finds nothing left.
const ORPHANS: &str = "WITH gone AS MATERIALIZED (SELECT n.incarnation FROM nodes n \
     JOIN UNNEST($3::bigint[], $5::bigint[]) AS dead (incarnation, beat) ON n.incarnation = dead.incarnation \
     WHERE dead.beat IS NULL OR n.beat = dead.beat ORDER BY n.incarnation FOR UPDATE OF n) \
     UPDATE running SET token = token + 1, node = $1, since = $2, taken_over = 1 WHERE seq = ANY (ARRAY (\
     SELECT seq FROM running WHERE node IN (SELECT incarnation FROM gone) ORDER BY seq LIMIT $4 \
     FOR UPDATE SKIP LOCKED)) RETURNING *";
const RECLAIMED: &str = "WITH mine AS MATERIALIZED (SELECT r.seq FROM running r \
     JOIN UNNEST($3::bigint[], $4::bigint[]) AS lost (seq, token) ON r.seq = lost.seq AND r.token = lost.token \
     WHERE r.node = $1 ORDER BY r.seq FOR UPDATE OF r) \
     UPDATE running AS r SET token = r.token + 1, since = $2 FROM mine WHERE r.seq = mine.seq RETURNING r.*";
const EXPIRED: &str = "DELETE FROM ready WHERE seq = ANY (ARRAY (\
     SELECT r.seq FROM ready r JOIN operations o ON o.seq = r.seq WHERE r.lane = $1 AND o.deadline_at <= $2 \
     LIMIT $3 FOR UPDATE OF r SKIP LOCKED)) RETURNING *";

/// An operation on its way out.
struct Out {
    seq: i64,
    lane: Lane,
    carried: Carried,
    held: Held,
    continuation: Option<Continuation>,
    cancel_asked: bool,
}

pub(super) async fn claim(writing: &mut Writing, wants: &[Want], now: Timestamp) -> Batch<Claimed> {
    if wants.is_empty() {
        return Ok(Vec::new());
    }
    let lanes: Vec<_> =
        wants.iter().map(|want| writing.book.number(&want.lane)).collect::<Result<_, _>>()?;
    let limits: Vec<_> = wants.iter().map(|want| want.limit as i64).collect();
    let lows = writing.book.marks.of(&lanes);
    let values =
        Values::default().with(lanes.clone()).with(limits).with(now.as_micros()).with(lows);
    let mut taken = writing.rows(TAKEN, values).await?;
    sort_by_due(&mut taken)?;
    for row in &taken {
        writing.book.marks.taken(number(row, "lane")?, time(row, "due_at")?);
    }
    let mut by_lane = begin(writing, &taken, now).await?;
    let values = Values::default().with(lanes.clone()).with(writing.book.marks.of(&lanes));
    let heads = heads(&writing.rows(HEADS, values).await?)?;
    let claimed = |(want, number): (&Want, i64)| Claimed {
        lane: want.lane.clone(),
        leased: by_lane.remove(&number).unwrap_or_default(),
        next_due: heads.get(&number).copied().flatten(),
    };
    Ok(wants.iter().zip(lanes).map(claimed).collect())
}

fn sort_by_due(rows: &mut Vec<PgRow>) -> Result<(), LedgerError> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        keyed.push(((time(&row, "due_at")?, number::<i64>(&row, "seq")?), row));
    }
    keyed.sort_unstable_by_key(|(key, _)| *key);
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

/// When the next of each lane is due.
pub(super) fn heads(rows: &[PgRow]) -> Result<HashMap<i64, Option<Timestamp>>, LedgerError> {
    rows.iter().map(|row| Ok((number(row, "lane")?, maybe_time(row, "due_at")?))).collect()
}

/// Begins the next attempt of each row that was taken from ready.
async fn begin(
    writing: &mut Writing,
    taken: &[PgRow],
    now: Timestamp,
) -> Result<HashMap<i64, Vec<Leased>>, LedgerError> {
    let node = writing.book.incarnation;
    let mut running = Vec::with_capacity(taken.len());
    for row in taken {
        let carried = Carried::of(row)?.begun(now);
        let (seq, lane) = (number(row, "seq")?, number(row, "lane")?);
        running.push(RunningRow { seq, lane, node, since: now, carried });
    }
    let events: Vec<_> = running.iter().map(RunningRow::started).collect();
    writing.script.add(&RUNNING, &running, RunningRow::put).add(&EVENTS, &events, EventRow::put);
    let lanes: Vec<_> = running.iter().map(|row| row.lane).collect();
    let outs: Result<Vec<_>, _> = running.into_iter().map(|row| out(writing, row)).collect();
    let mut by_lane: HashMap<i64, Vec<Leased>> = HashMap::new();
    for (lane, leased) in lanes.into_iter().zip(hand_out(writing, outs?).await?) {
        by_lane.entry(lane).or_default().push(leased);
    }
    Ok(by_lane)
}

fn out(writing: &Writing, row: RunningRow) -> Result<Out, LedgerError> {
    Ok(Out {
        seq: row.seq,
        lane: writing.lane(row.lane)?,
        carried: row.carried,
        held: Held::Running,
        continuation: None,
        cancel_asked: false,
    })
}

/// Reads the work of operations and makes their leases, in the order given.
async fn hand_out(writing: &mut Writing, outs: Vec<Out>) -> Batch<Leased> {
    if outs.is_empty() {
        return Ok(Vec::new());
    }
    let seqs: Vec<_> = outs.iter().map(|out| out.seq).collect();
    let rows = writing.rows(WORK, Values::default().with(seqs)).await?;
    let mut by_seq = HashMap::with_capacity(rows.len());
    for row in &rows {
        by_seq.insert(number::<i64>(row, "seq")?, row);
    }
    let lease = |out: Out| {
        let missing = || damaged(format!("operation {} is missing", out.seq));
        let row = *by_seq.get(&out.seq).ok_or_else(missing)?;
        leased(row, out.lane, &out.carried, out.held, out.continuation, out.cancel_asked)
    };
    outs.into_iter().map(lease).collect()
}

pub(super) async fn claim_waiting(
    writing: &mut Writing,
    limit: usize,
    now: Timestamp,
    visible_again: Timestamp,
) -> Batch<Leased> {
    let values =
        Values::default().with(visible_again.as_micros()).with(now.as_micros()).with(limit as i64);
    let rows = writing.rows(WAITING, values).await?;
    held(writing, &rows, Held::Waiting).await
}

pub(super) async fn claim_orphans(
    writing: &mut Writing,
    dead: &[Dead],
    limit: usize,
    now: Timestamp,
) -> Batch<Leased> {
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let (incarnations, beats): (Vec<_>, Vec<_>) =
        dead.iter().map(|dead| (dead.incarnation, dead.beat)).unzip();
    let values = Values::default()
        .with(writing.book.incarnation)
        .with(now.as_micros())
        .with(incarnations)
        .with(limit as i64)
        .with(beats);
    let rows = writing.rows(ORPHANS, values).await?;
    held(writing, &rows, Held::Running).await
}

pub(super) async fn reclaim(
    writing: &mut Writing,
    lost: &[LeaseKey],
    now: Timestamp,
) -> Batch<Leased> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let (seqs, tokens): (Vec<_>, Vec<_>) = lost.iter().map(|key| (key.seq, key.token)).unzip();
    let node = writing.book.incarnation;
    let values = Values::default().with(node).with(now.as_micros()).with(seqs).with(tokens);
    let rows = writing.rows(RECLAIMED, values).await?;
    held(writing, &rows, Held::Running).await
}

/// Hands out rows that stay in their table.
async fn held(writing: &mut Writing, rows: &[PgRow], held: Held) -> Batch<Leased> {
    let lanes: Result<Vec<i64>, _> = rows.iter().map(|row| number(row, "lane")).collect();
    writing.learn_lanes(lanes?).await?;
    let mut outs = Vec::with_capacity(rows.len());
    for row in rows {
        let (continuation, cancel_asked) = match held {
            Held::Waiting => (continuation(row)?, false),
            Held::Running => (None, number::<i64>(row, "cancel")? > 0),
        };
        outs.push(Out {
            seq: number(row, "seq")?,
            lane: writing.lane(number(row, "lane")?)?,
            carried: Carried::of(row)?,
            held,
            continuation,
            cancel_asked,
        });
    }
    hand_out(writing, outs).await
}

pub(super) async fn claim_expired(
    writing: &mut Writing,
    lane: &Lane,
    limit: usize,
    now: Timestamp,
) -> Batch<Leased> {
    let (number_of, node) = (writing.book.number(lane)?, writing.book.incarnation);
    let values = Values::default().with(number_of).with(now.as_micros()).with(limit as i64);
    let rows = writing.rows(EXPIRED, values).await?;
    let mut running = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut carried = Carried::of(row)?;
        carried.token += 1;
        let seq = number(row, "seq")?;
        running.push(RunningRow { seq, lane: number_of, node, since: now, carried });
    }
    writing.script.add(&RUNNING, &running, RunningRow::put);
    let outs: Result<Vec<_>, _> = running.into_iter().map(|row| out(writing, row)).collect();
    hand_out(writing, outs?).await
}
