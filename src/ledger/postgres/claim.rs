//! Handing operations out: moving their rows, and making the leases.

use std::collections::HashMap;

use sqlx::postgres::PgRow;

use super::batch::Values;
use super::settle::RUNNING;
use super::writing::Writing;
use crate::domain::Timestamp;
use crate::domain::delivery::Topic;
use crate::domain::operation::{Continuation, EventKind, Lane};
use crate::ledger::error::LedgerError;
use crate::ledger::fleet::Dead;
use crate::ledger::fleet::LeaseKey;
use crate::ledger::rows::{
    Carried, RunningRow, carried, continuation, damaged, leased, maybe_number, maybe_time, number,
    ready_row, running_row, waiting_row,
};
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Claimed, Held, Leased, Want};
use crate::ledger::webhooks::sql::Told;

macro_rules! work {
    () => {
        "o.id, o.octets, o.accepted_at, o.route, o.method, o.target, o.task, o.delivery, o.timeout_us, o.deadline_at, \
         o.retry_attempts, o.retry_min_us, o.retry_max_us, o.wait_us, o.on_failure, o.recheck, o.success, o.retry_statuses, o.upstream_key, \
         o.serial_digest, o.client_reference, q.fields, q.body, q.body_key, q.body_length, c.fields AS credentials"
    };
}

/// The credentials of an operation, which go when it ends; looked up as its place is.
macro_rules! credentials {
    ($of:literal) => {
        concat!(
            " LEFT JOIN LATERAL (SELECT fields FROM credentials WHERE seq = ",
            $of,
            " LIMIT 1) AS c ON true"
        )
    };
}

/// Differs from SQLite because others claim too, and because each statement is a round
/// trip: what another one is taking is passed over, all lanes are asked at once, none is
/// walked from its very beginning, and one statement takes, begins and reads. None of its
/// parts sees what another one changes, so what is taken is left out of what comes next.
/// Nothing is taken where receivers are no longer as was relied on.
const CLAIMED: &str = concat!(
    "WITH taken AS (DELETE FROM ready WHERE seq = ANY (ARRAY (\
     SELECT r.seq FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS want (lane, most, low) CROSS JOIN LATERAL \
     (SELECT seq FROM ready WHERE lane = want.lane AND due_at >= want.low AND due_at <= $4 \
     ORDER BY due_at, seq LIMIT want.most FOR UPDATE SKIP LOCKED) AS r \
     WHERE $7::bigint IS NULL OR (SELECT version FROM webhooks) = $7)) RETURNING ",
    ready_row!(""),
    "), \
     begun AS (INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, contact, last_try, token, sequence, \
     started_at, percent, message) SELECT seq, lane, $5, $4, attempts + 1, resumes, rescues, refusals, contact, last_try, token + 1, \
     sequence + 1, coalesce(started_at, $4), percent, message FROM taken), \
     told AS (INSERT INTO events (seq, sequence, at, kind, attempt) \
     SELECT seq, sequence + 1, $4, $6, attempts + 1 FROM taken) \
     SELECT want.lane AS wanted, (SELECT version FROM webhooks) AS version, head.due_at AS next_due, t.seq, t.due_at, t.attempts, t.resumes, t.rescues, t.refusals, t.contact, t.last_try, \
     t.token, t.sequence, t.started_at, t.percent, t.message, ",
    work!(),
    " FROM UNNEST($1::bigint[], $3::bigint[]) AS want (lane, low) LEFT JOIN LATERAL \
     (SELECT due_at FROM ready WHERE lane = want.lane AND due_at >= want.low AND seq NOT IN (SELECT seq FROM taken) \
     ORDER BY due_at, seq LIMIT 1) AS head ON true \
     LEFT JOIN taken t ON t.lane = want.lane LEFT JOIN operations o ON o.seq = t.seq \
     LEFT JOIN requests q ON q.seq = t.seq",
    credentials!("t.seq")
);
pub(super) const HEADS: &str = "SELECT want.lane, head.due_at FROM UNNEST($1::bigint[], $2::bigint[]) AS want (lane, low) \
     LEFT JOIN LATERAL (SELECT due_at FROM ready WHERE lane = want.lane AND due_at >= want.low ORDER BY due_at, seq LIMIT 1) AS head ON true";
const WORK: &str = concat!(
    "SELECT o.seq, ",
    work!(),
    " FROM operations o LEFT JOIN requests q ON q.seq = o.seq",
    credentials!("o.seq"),
    " WHERE o.seq = ANY ($1)"
);
const WAITING: &str = concat!(
    "UPDATE waiting SET token = token + 1, due_at = $1 WHERE seq = ANY (ARRAY (\
     SELECT r.seq FROM UNNEST($3::bigint[], $4::bigint[]) AS want (lane, most) CROSS JOIN LATERAL \
     (SELECT seq FROM waiting WHERE lane = want.lane AND due_at <= $2 \
     ORDER BY due_at, seq LIMIT want.most FOR UPDATE SKIP LOCKED) AS r)) RETURNING ",
    waiting_row!("")
);
const OVERDUE: &str = concat!(
    "UPDATE waiting SET token = token + 1, deadline_at = $1 WHERE seq = ANY (ARRAY (\
     SELECT seq FROM waiting WHERE deadline_at <= $2 ORDER BY deadline_at, seq LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING ",
    waiting_row!("")
);
/// Differs from SQLite because who counts as dead may come back: its row is locked, so that
/// it either has beaten before, and keeps all, or beats after, and finds nothing left.
const ORPHANS: &str = concat!(
    "WITH gone AS MATERIALIZED (SELECT n.incarnation FROM nodes n \
     JOIN UNNEST($3::bigint[], $5::bigint[]) AS dead (incarnation, beat) ON n.incarnation = dead.incarnation \
     WHERE dead.beat IS NULL OR n.beat = dead.beat ORDER BY n.incarnation FOR UPDATE OF n) \
     UPDATE running SET token = token + 1, node = $1, since = $2, taken_over = 1 WHERE seq = ANY (ARRAY (\
     SELECT seq FROM running WHERE node IN (SELECT incarnation FROM gone) ORDER BY seq LIMIT $4 \
     FOR UPDATE SKIP LOCKED)) RETURNING ",
    running_row!("")
);
const RECLAIMED: &str = concat!(
    "UPDATE running SET token = token + 1, since = $2, taken_over = greatest(taken_over, $5) WHERE seq = ANY (ARRAY (\
     SELECT mine.seq FROM UNNEST($3::bigint[], $4::bigint[]) AS lost (seq, token) CROSS JOIN LATERAL \
     (SELECT seq FROM running WHERE seq = lost.seq AND token = lost.token AND node = $1 LIMIT 1 FOR UPDATE) AS mine)) \
     RETURNING ",
    running_row!("")
);
const EXPIRED: &str = concat!(
    "DELETE FROM ready WHERE seq = ANY (ARRAY (\
     SELECT r.seq FROM ready r JOIN operations o ON o.seq = r.seq WHERE r.lane = $1 AND o.deadline_at <= $2 \
     LIMIT $3 FOR UPDATE OF r SKIP LOCKED)) RETURNING ",
    ready_row!("")
);

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
    let mut rows = taken(writing, wants, &lanes, now).await?;
    let version = rows.first().map_or(Ok(None), |row| maybe_number(row, "version"))?;
    if writing.relies_on().is_some_and(|relied_on| version != Some(relied_on)) {
        writing.turn_back().await?;
        rows = taken(writing, wants, &lanes, now).await?;
    }
    sort_by_due(&mut rows)?;
    let mut taken: HashMap<i64, (Option<Timestamp>, Vec<Leased>)> = HashMap::new();
    for row in &rows {
        let lane = number(row, "wanted")?;
        let (next_due, leased_of) = taken.entry(lane).or_default();
        *next_due = maybe_time(row, "next_due")?;
        if let Some(due_at) = maybe_time(row, "due_at")? {
            writing.book.marks.taken(lane, due_at);
            let carried = Carried::of(row)?.begun(now);
            let (seq, sequence) = (number(row, "seq")?, carried.sequence);
            writing.told.push(Told { seq, sequence, topic: Topic::Started, at: now });
            let lane = writing.lane(lane)?;
            let book = &writing.book;
            leased_of.extend(readable(
                row,
                leased(row, lane, &carried, Held::Running, None, false, &book.sealer),
            )?);
        }
    }
    let claimed = |(want, number): (&Want, i64)| {
        let (next_due, leased) = taken.remove(&number).unwrap_or_default();
        Claimed { lane: want.lane.clone(), leased, next_due }
    };
    Ok(wants.iter().zip(lanes).map(claimed).collect())
}

/// Takes what is due in these lanes, which have these numbers.
async fn taken(
    writing: &mut Writing,
    wants: &[Want],
    lanes: &[i64],
    now: Timestamp,
) -> Batch<PgRow> {
    let limits: Vec<_> = wants.iter().map(|want| want.limit as i64).collect();
    let lows = writing.book.marks.of(lanes);
    let values = Values::default().with(lanes.to_vec()).with(limits).with(lows);
    let values = values.with(now.as_micros()).with(writing.book.incarnation);
    let values = values.with(EventKind::Started.as_str()).with(writing.relies_on());
    writing.rows(CLAIMED, values).await
}

/// Passes over one that cannot be read, so that it keeps nobody else from being handed out:
/// these are committed already, or lie where they are.
fn readable(
    row: &PgRow,
    leased: Result<Leased, LedgerError>,
) -> Result<Option<Leased>, LedgerError> {
    match leased {
        Ok(leased) => Ok(Some(leased)),
        Err(LedgerError::Damaged(why) | LedgerError::Sealed(why)) => {
            let place: i64 = number(row, "seq")?;
            tracing::error!(place, why, "an operation cannot be read and is carried out by nobody");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Sorts what was taken by when it was due; a lane of which nothing was has no time.
fn sort_by_due(rows: &mut Vec<PgRow>) -> Result<(), LedgerError> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        keyed.push(((maybe_time(&row, "due_at")?, maybe_number::<i64>(&row, "seq")?), row));
    }
    keyed.sort_unstable_by_key(|(key, _)| *key);
    rows.extend(keyed.into_iter().map(|(_, row)| row));
    Ok(())
}

/// When the next of each lane is due.
pub(super) fn heads(rows: &[PgRow]) -> Result<HashMap<i64, Option<Timestamp>>, LedgerError> {
    rows.iter().map(|row| Ok((number(row, "lane")?, maybe_time(row, "due_at")?))).collect()
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

/// Reads the work of operations and makes their leases, in the order given, of those that
/// can be read.
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
    let mut leases = Vec::with_capacity(outs.len());
    let sealer = &writing.book.sealer;
    for out in outs {
        let missing = || damaged(format!("operation {} is missing", out.seq));
        let row = *by_seq.get(&out.seq).ok_or_else(missing)?;
        let lease = leased(
            row,
            out.lane,
            &out.carried,
            out.held,
            out.continuation,
            out.cancel_asked,
            sealer,
        );
        leases.extend(readable(row, lease)?);
    }
    Ok(leases)
}

pub(super) async fn claim_waiting(
    writing: &mut Writing,
    wants: &[Want],
    now: Timestamp,
    visible_again: Timestamp,
) -> Batch<Leased> {
    let lanes: Vec<_> =
        wants.iter().map(|want| writing.book.number(&want.lane)).collect::<Result<_, _>>()?;
    let limits: Vec<_> = wants.iter().map(|want| want.limit as i64).collect();
    let values = Values::default().with(visible_again.as_micros()).with(now.as_micros());
    let rows = writing.rows(WAITING, values.with(lanes).with(limits)).await?;
    held(writing, &rows, Held::Waiting).await
}

pub(super) async fn claim_overdue(
    writing: &mut Writing,
    limit: usize,
    now: Timestamp,
    visible_again: Timestamp,
) -> Batch<Leased> {
    let values = Values::default().with(visible_again.as_micros()).with(now.as_micros());
    let rows = writing.rows(OVERDUE, values.with(limit as i64)).await?;
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
    begun: bool,
    now: Timestamp,
) -> Batch<Leased> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let (seqs, tokens): (Vec<_>, Vec<_>) = lost.iter().map(|key| (key.seq, key.token)).unzip();
    let node = writing.book.incarnation;
    let values = Values::default().with(node).with(now.as_micros()).with(seqs).with(tokens);
    let rows = writing.rows(RECLAIMED, values.with(i64::from(begun))).await?;
    held(writing, &rows, Held::Running).await
}

/// Hands out rows that stay in their table.
async fn held(writing: &mut Writing, rows: &[PgRow], held: Held) -> Batch<Leased> {
    let lanes: Result<Vec<i64>, _> = rows.iter().map(|row| number(row, "lane")).collect();
    writing.learn_lanes(lanes?).await?;
    let mut outs = Vec::with_capacity(rows.len());
    for row in rows {
        let (continuation, cancel_asked) = match held {
            Held::Waiting => (continuation(row, &writing.book.sealer)?, false),
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
