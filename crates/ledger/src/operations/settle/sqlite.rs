//! The settlement of attempts.

use crate::db::statements::statements;
use crate::operations::finish::sqlite as finish;
use std::collections::HashMap;

use crate::commit::effects::Effects;
pub(crate) use crate::db::sqlite::rows::{EventRow, ReadyRow, RunningRow};
use crate::db::sqlite::rows::{
    carried, number, origins, ready_twin, running_row, standing_at, waiting_row,
};
use crate::db::sqlite::writer::{Row, Writer};
use crate::db::sqlite::{Book, SqliteTransaction};
use crate::error::{LedgerError, StaleLease};
use crate::model::{Held, SettledAs, Settlement};
use crate::operations::ends::{Ends, Finish, LeasedRow};
use crate::store::Batch;
use crate::webhooks::rows::callback;
use crate::webhooks::sql::{OperationSnapshot, PendingEvent};
use cloakroom_domain::operation::outlived_by;

statements! {
    pub(crate) const READY: &str = concat!(
        r"
        INSERT INTO ready (seq, lane, due_at, attempts, resumes, rescues, refusals, contact,
            last_try, token, sequence, started_at, percent, message)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ",
        ready_twin!()
    );

    pub(crate) const RUNNING: &str = r"
        INSERT INTO running (seq, lane, node, since, attempts, resumes, rescues, refusals,
            contact, last_try, token, sequence, started_at, percent, message)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

    pub(crate) const EVENTS: &str = r"
        INSERT INTO events (seq, sequence, at, kind, attempt, status, code, next_at,
            percent, message)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

    /// Events that give way to later ones.
    pub(crate) const OUTLIVED: &str = r"DELETE FROM events WHERE seq = ? AND sequence BETWEEN ? AND ?";

    pub(crate) const READY_GONE: &str = r"DELETE FROM ready WHERE seq = ?";

    const WAITING: &str = r"
        INSERT INTO waiting (seq, lane, waiting_for, due_at, version, continuation,
            attempts, resumes, rescues, refusals, contact, last_try, token, sequence,
            started_at, percent, message)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

    const ORIGINS: &str = concat!(r"SELECT o.seq, ", origins!(), " FROM operations o WHERE o.seq = ?");

    // DELETE … RETURNING would do both at once, but makes and drops a table of its own for each row.
    const RUNNING_FOUND: &str = concat!(r"SELECT ", running_row!(""), " FROM running WHERE seq = ? AND token = ?");

    const RUNNING_GONE: &str = r"DELETE FROM running WHERE seq = ?";
    const WAITING_FOUND: &str = concat!(r"SELECT 0 AS cancel, ", waiting_row!(""), " FROM waiting WHERE seq = ? AND token = ?");
    const WAITING_GONE: &str = r"DELETE FROM waiting WHERE seq = ?";
}

pub(crate) fn settle(
    writing: &mut SqliteTransaction,
    batch: &[Settlement],
    effects: &mut Effects,
) -> Batch<Result<SettledAs, StaleLease>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = HashMap::new();
    take(writing, batch, Held::Running, &mut found)?;
    take(writing, batch, Held::Waiting, &mut found)?;
    let mut ends = Ends::default();
    // Of each that ends, the number of its lane.
    let mut lanes = Vec::new();
    let mut settled = Vec::with_capacity(batch.len());
    for settlement in batch {
        match found.remove(&(settlement.lease.seq, settlement.lease.token)) {
            Some(found) => {
                let number = found.lane();
                let lane = |number| writing.book.lane(number);
                settled.push(Ok(ends.add(
                    settlement,
                    found,
                    lane,
                    effects,
                    &writing.book.sealer,
                )?));
                if ends.finished.len() > lanes.len() {
                    lanes.push(number);
                }
            }
            None => settled.push(Err(StaleLease)),
        }
    }
    writing.writer.each(READY, &ends.ready, |row, values| row.put(values))?;
    writing.writer.each(WAITING, &ends.waiting, |row, values| row.put(values))?;
    writing.writer.events(&ends.events)?;
    finish::finish(writing, &ends.finished, effects)?;
    if writing.book.subscribers.index().wants_ends() {
        remember(writing, &ends.finished, &lanes)?;
    }
    Ok(settled)
}

/// Keeps how each of these stands that has ended, in a lane of that number, for receivers that are told
/// of it: reading it back would mean looking into every table that it may be in.
fn remember(
    writing: &mut SqliteTransaction,
    finished: &[Finish],
    lanes: &[i64],
) -> Result<(), LedgerError> {
    let rows = writing.writer.all_of_each(ORIGINS, finished, |finish, values| {
        values.put(finish.seq);
    })?;
    let rows = rows.iter().map(|row| Ok((number(row, "seq")?, row)));
    let rows: HashMap<i64, &Row> = rows.collect::<Result<_, LedgerError>>()?;
    for (finish, lane) in finished.iter().zip(lanes) {
        // No receiver is told of an operation that cannot be read.
        let ended = rows.get(&finish.seq).map(|row| ended(&writing.book, finish, *lane, row));
        if let Some(Ok(ended)) = ended {
            writing.ended.insert(finish.seq, ended);
        }
    }
    Ok(())
}

/// How one stands that has ended.
fn ended(
    book: &Book,
    finish: &Finish,
    lane: i64,
    row: &Row,
) -> Result<OperationSnapshot, LedgerError> {
    let lane = book.lane(lane)?;
    let Book { retention, sealer, .. } = book;
    let standing = finish.standing(finish.at + retention.result, sealer)?;
    let operation = standing_at(row, &lane.queue, &lane.upstream, standing, sealer)?;
    Ok(OperationSnapshot { seq: finish.seq, operation, callback: callback(row, sealer)? })
}

/// Takes the rows of those settlements whose lease is the latest.
fn take(
    writing: &mut SqliteTransaction,
    batch: &[Settlement],
    held: Held,
    found: &mut HashMap<(i64, i64), LeasedRow>,
) -> Result<(), LedgerError> {
    let mut leases: Vec<_> = batch
        .iter()
        .filter(|settlement| settlement.lease.held == held)
        .map(|settlement| (settlement.lease.seq, settlement.lease.token))
        .collect();
    leases.sort_unstable();
    let (of_lease, gone) = match held {
        Held::Running => (RUNNING_FOUND, RUNNING_GONE),
        Held::Waiting => (WAITING_FOUND, WAITING_GONE),
    };
    let rows = writing.writer.all_of_each(of_lease, &leases, |(seq, token), values| {
        values.put(seq).put(token);
    })?;
    let mut taken: Vec<i64> = Vec::with_capacity(rows.len());
    for row in &rows {
        let key = (number(row, "seq")?, number(row, "token")?);
        found.insert(key, LeasedRow::of(row, held)?);
        taken.push(key.0);
    }
    writing.writer.each(gone, &taken, |seq, values| {
        values.put(seq);
    })?;
    Ok(())
}

impl Writer {
    /// Puts events into timelines.
    pub(crate) fn events(&mut self, events: &[EventRow]) -> Result<(), LedgerError> {
        self.told.extend(events.iter().filter_map(PendingEvent::of));
        self.each(EVENTS, events, |row, values| {
            row.put(values);
        })?;
        let outlived: Vec<_> = events
            .iter()
            .filter_map(|event| Some((event.seq, outlived_by(event.sequence)?)))
            .collect();
        self.each(OUTLIVED, &outlived, |(seq, numbers), values| {
            values.put(seq).put(numbers.start()).put(numbers.end());
        })
        .map(drop)
    }
}
