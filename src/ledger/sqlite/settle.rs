//! Committing the ends of attempts.

use std::collections::HashMap;
use std::sync::Arc;

use super::Writing;
use super::batch::{Script, Statement, Values};
use super::finish;
pub(super) use super::rows::{EventRow, ReadyRow, RunningRow};
use super::rows::{WaitingRow, get};
use crate::ledger::ends::{Ends, Found};
use crate::ledger::error::{LedgerError, StaleLease};
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Held, Moved, SettledAs, Settlement};

pub(super) static READY: Statement = Statement::insert(
    "INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence, started_at, \
     percent, message)",
    12,
);
pub(super) static RUNNING: Statement = Statement::insert(
    "INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence, started_at, \
     percent, message)",
    13,
);
pub(super) static EVENTS: Statement = Statement::insert(
    "INSERT INTO events (seq, sequence, at, kind, attempt, status, code, next_at, percent, message)",
    10,
);
pub(super) static READY_GONE: Statement = Statement::among("DELETE FROM ready WHERE seq IN", "");
static WAITING: Statement = Statement::insert(
    "INSERT INTO waiting (seq, lane, waiting_for, due_at, version, continuation, attempts, resumes, rescues, refusals, \
     token, sequence, started_at, percent, message)",
    15,
);
static RUNNING_TAKEN: Statement =
    Statement::pairs("DELETE FROM running WHERE", "(seq = ? AND token = ?)", "RETURNING *");
static WAITING_TAKEN: Statement = Statement::pairs(
    "DELETE FROM waiting WHERE",
    "(seq = ? AND token = ?)",
    "RETURNING *, 0 AS cancel",
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
    let mut ends = Ends::default();
    let mut settled = Vec::with_capacity(batch.len());
    for settlement in batch {
        match found.remove(&(settlement.lease.seq, settlement.lease.token)) {
            Some(found) => {
                let lane = |number| writing.book.lane(number).cloned();
                settled.push(Ok(ends.add(settlement, found, lane, moved)?));
            }
            None => settled.push(Err(StaleLease)),
        }
    }
    let mut script = Script::default();
    script
        .add(&READY, &ends.ready, ReadyRow::put)
        .add(&WAITING, &ends.waiting, WaitingRow::put)
        .add(&EVENTS, &ends.events, EventRow::put);
    finish::finish(writing, script, ends.finished, moved).await?;
    Ok(settled)
}

/// Takes the rows of those settlements whose lease is the latest.
async fn take(
    writing: &mut Writing,
    batch: &[Settlement],
    held: Held,
    found: &mut HashMap<(i64, i64), Found>,
) -> Result<(), LedgerError> {
    let mut leases: Vec<_> = batch
        .iter()
        .filter(|settlement| settlement.lease.held == held)
        .map(|settlement| (settlement.lease.seq, settlement.lease.token))
        .collect();
    leases.sort_unstable();
    let taken = match held {
        Held::Running => &RUNNING_TAKEN,
        Held::Waiting => &WAITING_TAKEN,
    };
    let bind = |(seq, token): &(i64, i64), values: &mut Values| {
        values.put(*seq).put(*token);
    };
    for row in &taken.fetch_in(writing, &leases, bind).await? {
        let key = (get(row, "seq")?, get(row, "token")?);
        found.insert(key, Found::of(row, held)?);
    }
    Ok(())
}

/// The book of an open transaction, for whoever needs it beside the connection.
pub(super) fn book(writing: &Writing) -> Arc<super::Book> {
    Arc::clone(&writing.book)
}
