//! Committing the ends of attempts.

use std::collections::HashMap;

use super::Writing;
use super::finish;
pub(super) use super::rows::{EventRow, ReadyRow, RunningRow};
use super::rows::{carried, number, running_row, waiting_row};
use crate::ledger::ends::{Ends, Found};
use crate::ledger::error::{LedgerError, StaleLease};
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Held, Moved, SettledAs, Settlement};

pub(super) const READY: &str = "INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, token, sequence, started_at, \
     percent, message) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
pub(super) const RUNNING: &str = "INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals, token, sequence, started_at, \
     percent, message) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
pub(super) const EVENTS: &str = "INSERT INTO events (seq, sequence, at, kind, attempt, status, code, next_at, percent, message) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
pub(super) const READY_GONE: &str = "DELETE FROM ready WHERE seq = ?";
const WAITING: &str = "INSERT INTO waiting (seq, lane, waiting_for, due_at, version, continuation, attempts, resumes, rescues, refusals, \
     token, sequence, started_at, percent, message) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const RUNNING_TAKEN: &str =
    concat!("DELETE FROM running WHERE seq = ? AND token = ? RETURNING ", running_row!(""));
const WAITING_TAKEN: &str = concat!(
    "DELETE FROM waiting WHERE seq = ? AND token = ? RETURNING 0 AS cancel, ",
    waiting_row!("")
);

pub(super) fn settle(
    writing: &mut Writing,
    batch: &[Settlement],
    moved: &mut Moved,
) -> Batch<Result<SettledAs, StaleLease>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = HashMap::new();
    take(writing, batch, Held::Running, &mut found)?;
    take(writing, batch, Held::Waiting, &mut found)?;
    let mut ends = Ends::default();
    let mut settled = Vec::with_capacity(batch.len());
    for settlement in batch {
        match found.remove(&(settlement.lease.seq, settlement.lease.token)) {
            Some(found) => {
                let lane = |number| writing.book.lane(number);
                settled.push(Ok(ends.add(settlement, found, lane, moved)?));
            }
            None => settled.push(Err(StaleLease)),
        }
    }
    writing.writer.each(READY, &ends.ready, |row, values| row.put(values))?;
    writing.writer.each(WAITING, &ends.waiting, |row, values| row.put(values))?;
    writing.writer.events(&ends.events)?;
    finish::finish(writing, &ends.finished, moved)?;
    Ok(settled)
}

/// Takes the rows of those settlements whose lease is the latest.
fn take(
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
        Held::Running => RUNNING_TAKEN,
        Held::Waiting => WAITING_TAKEN,
    };
    let rows = writing.writer.all_of_each(taken, &leases, |(seq, token), values| {
        values.put(seq).put(token);
    })?;
    for row in &rows {
        let key = (number(row, "seq")?, number(row, "token")?);
        found.insert(key, Found::of(row, held)?);
    }
    Ok(())
}
