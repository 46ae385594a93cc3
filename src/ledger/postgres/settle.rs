//! Committing the ends of attempts.

use std::collections::HashMap;

use super::batch::{Statement, Values};
use super::finish;
use super::writing::Writing;
use crate::ledger::ends::{Ends, Found};
use crate::ledger::error::{LedgerError, StaleLease};
use crate::ledger::rows::{ReadyRow, WaitingRow, carried, number, running_row, waiting_row};
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Held, Moved, SettledAs, Settlement};

pub(super) static READY: Statement = Statement::insert(
    "INSERT INTO ready",
    "seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message",
    "nnnnnnnnnnNT",
);
pub(super) static RUNNING: Statement = Statement::insert(
    "INSERT INTO running",
    "seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence, started_at, percent, message",
    "nnnnnnnnnnnNT",
);
pub(super) static EVENTS: Statement = Statement::insert(
    "INSERT INTO events",
    "seq, sequence, at, kind, attempt, status, code, next_at, percent, message",
    "nnntnnTNNT",
);
static WAITING: Statement = Statement::insert(
    "INSERT INTO waiting",
    "seq, lane, waiting_for, due_at, version, continuation, attempts, resumes, rescues, refusals, token, sequence, \
     started_at, percent, message",
    "nntnnonnnnnnnNT",
);
/// Differs from SQLite because others write too: rows are locked in one order before they
/// are touched, and a row that another one has just taken is none.
const RUNNING_TAKEN: &str = concat!(
    "WITH held AS MATERIALIZED (SELECT r.seq FROM running r \
     JOIN UNNEST($1::bigint[], $2::bigint[]) AS lease (seq, token) ON r.seq = lease.seq AND r.token = lease.token \
     ORDER BY r.seq FOR UPDATE OF r) \
     DELETE FROM running AS r USING held WHERE r.seq = held.seq RETURNING ",
    running_row!("r.")
);
const WAITING_TAKEN: &str = concat!(
    "WITH held AS MATERIALIZED (SELECT w.seq FROM waiting w \
     JOIN UNNEST($1::bigint[], $2::bigint[]) AS lease (seq, token) ON w.seq = lease.seq AND w.token = lease.token \
     ORDER BY w.seq FOR UPDATE OF w) \
     DELETE FROM waiting AS w USING held WHERE w.seq = held.seq RETURNING 0::bigint AS cancel, ",
    waiting_row!("w.")
);

pub(super) async fn settle(
    writing: &mut Writing,
    batch: &[Settlement],
    moved: &mut Moved,
) -> Batch<Result<SettledAs, StaleLease>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = HashMap::new();
    take(writing, batch, Held::Running, &mut found).await?;
    take(writing, batch, Held::Waiting, &mut found).await?;
    writing.learn_lanes(found.values().map(Found::lane)).await?;
    let mut ends = Ends::default();
    let mut settled = Vec::with_capacity(batch.len());
    for settlement in batch {
        match found.remove(&(settlement.lease.seq, settlement.lease.token)) {
            Some(found) => {
                let lane = |number| writing.lane(number);
                settled.push(Ok(ends.add(settlement, found, lane, moved)?));
            }
            None => settled.push(Err(StaleLease)),
        }
    }
    writing.script.add(&READY, &ends.ready, ReadyRow::put).add(
        &WAITING,
        &ends.waiting,
        WaitingRow::put,
    );
    writing.events(&ends.events);
    finish::finish(writing, ends.finished, moved).await?;
    Ok(settled)
}

/// Takes the rows of those settlements whose lease is the latest.
async fn take(
    writing: &mut Writing,
    batch: &[Settlement],
    held: Held,
    found: &mut HashMap<(i64, i64), Found>,
) -> Result<(), LedgerError> {
    let (seqs, tokens): (Vec<_>, Vec<_>) = batch
        .iter()
        .filter(|settlement| settlement.lease.held == held)
        .map(|settlement| (settlement.lease.seq, settlement.lease.token))
        .unzip();
    if seqs.is_empty() {
        return Ok(());
    }
    let taken = match held {
        Held::Running => RUNNING_TAKEN,
        Held::Waiting => WAITING_TAKEN,
    };
    let rows = writing.rows(taken, Values::default().with(seqs).with(tokens)).await?;
    for row in &rows {
        let key = (number(row, "seq")?, number(row, "token")?);
        found.insert(key, Found::of(row, held)?);
    }
    Ok(())
}
