//! Committing the ends of attempts, and the rows of the states.

use std::collections::HashMap;
use std::sync::Arc;

use super::Writing;
use super::batch::{Script, Statement, Values};
use super::finish::{self, Finish};
use super::rows::{Carried, get};
use crate::domain::Timestamp;
use crate::domain::operation::{
    Continuation, Counts, Effect, ErrorCode, EventKind, Next, Status, Transition, WaitingFor,
};
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

/// A row of `ready`.
pub(super) struct ReadyRow {
    pub(super) seq: i64,
    pub(super) lane: i64,
    pub(super) due_at: Timestamp,
    pub(super) carried: Carried,
}

impl ReadyRow {
    /// Of an operation that was just accepted.
    pub(super) fn new(seq: i64, lane: i64, due_at: Timestamp) -> Self {
        Self { seq, lane, due_at, carried: Carried::fresh() }
    }

    pub(super) fn put(&self, values: &mut Values) {
        self.carried.put(values.put(self.seq).put(self.lane).put(self.due_at.as_micros()));
    }
}

/// A row of `running`.
pub(super) struct RunningRow {
    pub(super) seq: i64,
    pub(super) lane: i64,
    pub(super) node: i64,
    pub(super) since: Timestamp,
    pub(super) carried: Carried,
}

impl RunningRow {
    pub(super) fn put(&self, values: &mut Values) {
        values.put(self.seq).put(self.lane).put(self.node).put(self.since.as_micros());
        self.carried.put(values);
    }

    /// The event that goes with its beginning.
    pub(super) fn started(&self) -> EventRow {
        let attempt = self.carried.counts.attempts;
        EventRow {
            attempt,
            ..EventRow::plain(self.seq, self.carried.sequence, self.since, EventKind::Started)
        }
    }
}

/// A row of `events`.
pub(super) struct EventRow {
    pub(super) seq: i64,
    pub(super) sequence: u32,
    pub(super) at: Timestamp,
    pub(super) kind: EventKind,
    pub(super) attempt: u32,
    pub(super) status: Option<u16>,
    pub(super) code: Option<ErrorCode>,
    pub(super) next_at: Option<Timestamp>,
    pub(super) percent: Option<u8>,
    pub(super) message: Option<String>,
}

impl EventRow {
    /// An event of which there is no more to say.
    pub(super) fn plain(seq: i64, sequence: u32, at: Timestamp, kind: EventKind) -> Self {
        Self {
            seq,
            sequence,
            at,
            kind,
            attempt: 0,
            status: None,
            code: None,
            next_at: None,
            percent: None,
            message: None,
        }
    }

    pub(super) fn put(&self, values: &mut Values) {
        values.put(self.seq).put(self.sequence).put(self.at.as_micros()).put(self.kind.as_str());
        values.put(self.attempt).put(self.status).put(self.code.map(ErrorCode::as_str));
        values
            .put(self.next_at.map(Timestamp::as_micros))
            .put(self.percent)
            .put(self.message.clone());
    }
}

struct WaitingRow {
    seq: i64,
    lane: i64,
    on: WaitingFor,
    due_at: Timestamp,
    continuation: Option<Continuation>,
    carried: Carried,
}

impl WaitingRow {
    fn put(&self, values: &mut Values) {
        values.put(self.seq).put(self.lane).put(self.on.as_str()).put(self.due_at.as_micros());
        values.put(self.continuation.as_ref().map(|continuation| continuation.version));
        values.put(self.continuation.as_ref().map(|continuation| continuation.state.to_vec()));
        self.carried.put(values);
    }
}

/// An operation as its holder left it, found under the right token.
struct Found {
    lane: i64,
    carried: Carried,
    continuation: Option<Continuation>,
    cancel: i64,
}

/// What the settlements of a batch come to, by table.
#[derive(Default)]
struct Rows {
    ready: Vec<ReadyRow>,
    waiting: Vec<WaitingRow>,
    events: Vec<EventRow>,
    finished: Vec<Finish>,
}

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
    let mut rows = Rows::default();
    let mut settled = Vec::with_capacity(batch.len());
    for settlement in batch {
        match found.remove(&(settlement.lease.seq, settlement.lease.token)) {
            Some(found) => settled.push(Ok(rows.add(writing, settlement, found, moved)?)),
            None => settled.push(Err(StaleLease)),
        }
    }
    let mut script = Script::default();
    script
        .add(&READY, &rows.ready, ReadyRow::put)
        .add(&WAITING, &rows.waiting, WaitingRow::put)
        .add(&EVENTS, &rows.events, EventRow::put);
    finish::finish(writing, script, rows.finished, moved).await?;
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
        let continuation = match held {
            Held::Running => None,
            Held::Waiting => super::rows::continuation(row)?,
        };
        let (lane, cancel) = (get(row, "lane")?, get(row, "cancel")?);
        let key = (get(row, "seq")?, get(row, "token")?);
        found.insert(key, Found { lane, carried: Carried::of(row)?, continuation, cancel });
    }
    Ok(())
}

/// What was asked to be called off and would go on is canceled instead; what has ended
/// meanwhile has won the race.
fn heeding_cancel(transition: &Transition, cancel: i64) -> Transition {
    if cancel == 0 || transition.next.is_final() {
        return transition.clone();
    }
    Transition {
        next: Next::Canceled,
        counts: transition.counts,
        effects: vec![
            Effect::Announce { kind: EventKind::Canceled, code: None, status: None },
            Effect::EraseCredentials,
            Effect::PromoteSerialKey,
        ],
    }
}

impl Rows {
    fn add(
        &mut self,
        writing: &Writing,
        settlement: &Settlement,
        found: Found,
        moved: &mut Moved,
    ) -> Result<SettledAs, LedgerError> {
        let (seq, at) = (settlement.lease.seq, settlement.at);
        let transition = heeding_cancel(&settlement.transition, found.cancel);
        if settlement.lease.held == Held::Waiting {
            moved.waiting -= 1;
        }
        let Found { lane, mut carried, continuation, cancel } = found;
        carried.counts = transition.counts;
        self.tell(seq, at, &transition, &mut carried);
        let status = match &transition.next {
            Next::Queued { due_at } => {
                moved.ready.push((writing.book.lane(lane)?.clone(), *due_at));
                self.ready.push(ReadyRow { seq, lane, due_at: *due_at, carried });
                Status::Queued
            }
            Next::Waiting { on, due_at } => {
                moved.waits = true;
                moved.waiting += 1;
                let continuation = saved(&transition).or(continuation);
                self.waiting.push(WaitingRow {
                    seq,
                    lane,
                    on: *on,
                    due_at: *due_at,
                    continuation,
                    carried,
                });
                Status::Waiting
            }
            next => {
                let finish = Finish {
                    seq,
                    at,
                    next: next.clone(),
                    carried,
                    answer: settlement
                        .answer
                        .clone()
                        .filter(|_| transition.effects.contains(&Effect::KeepAnswer)),
                    serial: settlement.lease.serial,
                    freed: cancel == 2,
                };
                let status = finish.status();
                self.finished.push(finish);
                status
            }
        };
        Ok(SettledAs { status })
    }

    /// Puts what the transition announces into the timeline.
    fn tell(&mut self, seq: i64, at: Timestamp, transition: &Transition, carried: &mut Carried) {
        let next_at = match transition.next {
            Next::Queued { due_at } | Next::Waiting { due_at, .. } => Some(due_at),
            _ => None,
        };
        for effect in &transition.effects {
            if let Effect::Announce { kind, code, status } = effect {
                carried.sequence += 1;
                let Counts { attempts, .. } = carried.counts;
                self.events.push(EventRow {
                    attempt: attempts,
                    status: *status,
                    code: *code,
                    next_at,
                    ..EventRow::plain(seq, carried.sequence, at, *kind)
                });
            }
        }
    }
}

fn saved(transition: &Transition) -> Option<Continuation> {
    transition.effects.iter().find_map(|effect| match effect {
        Effect::SaveContinuation(continuation) => Some(continuation.clone()),
        _ => None,
    })
}

/// The book of an open transaction, for whoever needs it beside the connection.
pub(super) fn book(writing: &Writing) -> Arc<super::Book> {
    Arc::clone(&writing.book)
}
