//! The rows that the settlements of a batch come to.
//!
//! Owns the reading of a transition: which table the operation moves to, what goes into
//! its timeline, what is kept of the answer. It must not know how rows are written.

use crate::commit::effects::Effects;
use crate::error::LedgerError;
use crate::model::{Held, KeptAnswer, SettledAs, Settlement};
use crate::rows::{
    BindRow, EventRow, ReadRow, ReadyRow, RunState, Standing, StoredAnswer, WaitingRow, home,
    kept_continuation, number, stored_continuation,
};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{
    Continuation, Effect, ErrorCode, EventKind, Failure, Lane, NextState, OperationState, Status,
    Transition, UpstreamContact,
};
use cloakroom_domain::sealer::{SealContext, SealedValue, Sealer};

/// An operation as its holder left it, found under the right token.
pub(crate) struct LeasedRow {
    lane: i64,
    carried: RunState,
    /// As it is stored.
    continuation: Option<Continuation>,
    cancel: i64,
}

impl LeasedRow {
    /// The number of its lane.
    pub(crate) fn lane(&self) -> i64 {
        self.lane
    }

    /// From the row that was taken.
    pub(crate) fn of(row: &impl ReadRow, held: Held) -> Result<Self, LedgerError> {
        let continuation = match held {
            Held::Running => None,
            Held::Waiting => kept_continuation(row).unwrap_or_default(),
        };
        let (lane, cancel) = (number(row, "lane")?, number(row, "cancel")?);
        // The node that ends it has read it, or ends it because no node can.
        let carried = RunState::of(row).unwrap_or_else(|_| RunState::salvaged(row));
        Ok(Self { lane, carried, continuation, cancel })
    }
}

/// An operation that ends.
pub(crate) struct Finish {
    pub(crate) seq: i64,
    pub(crate) at: Timestamp,
    /// A final one.
    pub(crate) next: NextState,
    pub(crate) carried: RunState,
    pub(crate) answer: Option<KeptAnswer>,
    pub(crate) serial: Option<[u8; 16]>,
    /// No other operation of the serial key starts until a person releases it.
    pub(crate) blocks: bool,
    /// Request and result are freed at once.
    pub(crate) freed: bool,
    /// A repeat with its idempotency key is another operation.
    pub(crate) frees_key: bool,
}

impl Finish {
    /// The final state's name.
    pub(crate) fn status(&self) -> Status {
        match self.next {
            NextState::Failed(_) => Status::Failed,
            NextState::Canceled => Status::Canceled,
            _ => Status::Succeeded,
        }
    }

    /// The operation as it stands once this is written down.
    pub(crate) fn standing(
        &self,
        expires_at: Timestamp,
        sealer: &Sealer,
    ) -> Result<Standing, LedgerError> {
        let (at, carried) = (self.at, &self.carried);
        let place = SealContext::in_row(SealedValue::Progress, self.seq);
        let message = carried.message.as_deref();
        let message = message.map(|stored| sealer.opened_text(place, stored)).transpose()?;
        let state = match &self.next {
            NextState::Failed(failure) => OperationState::Failed { at, failure: failure.clone() },
            NextState::Canceled => OperationState::Canceled { at },
            _ => OperationState::Succeeded { at },
        };
        let answer = self.answer.as_ref();
        Ok(Standing {
            state,
            counts: carried.counts,
            started_at: carried.started_at,
            expires_at: Some(expires_at),
            freed_at: self.freed.then_some(at),
            percent: carried.percent,
            message,
            response_status: answer.map(|answer| answer.status),
            response_framing: answer.and_then(|answer| answer.framing),
            created_location: answer.and_then(|answer| answer.created_location.clone()),
            verdict: None,
            retried_by: None,
            sequence: carried.sequence,
        })
    }

    fn failure(&self) -> Option<&Failure> {
        match &self.next {
            NextState::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Its answer as it is stored.
    pub(crate) fn stored(&self, sealer: &Sealer) -> Result<Option<StoredAnswer>, LedgerError> {
        let answer = self.answer.as_ref();
        answer.map(|answer| StoredAnswer::of(answer, self.seq, sealer)).transpose()
    }

    /// Puts its row of `outcomes`.
    pub(crate) fn put(
        &self,
        stored: Option<&StoredAnswer>,
        expires_at: Timestamp,
        cells: &mut impl BindRow,
    ) {
        cells
            .number(self.seq)
            .text(self.status().as_str().to_owned())
            .number(self.at.as_micros())
            .number(expires_at.as_micros());
        cells.number(self.freed.then_some(self.at.as_micros()));
        self.carried.put_without_token(cells);
        let (answer, failure) = (self.answer.as_ref(), self.failure());
        let name = |code: ErrorCode| code.as_str().to_owned();
        cells
            .number(answer.map(|answer| i64::from(answer.status)))
            .text(
                answer.and_then(|answer| answer.framing).map(|framing| framing.as_str().to_owned()),
            )
            .text(stored.and_then(|stored| stored.created_location.clone()))
            .text(failure.map(|failure| name(failure.code)))
            .text(failure.and_then(|failure| failure.cause).map(name))
            .number(failure.and_then(|failure| failure.status).map(i64::from));
    }
}

/// What the settlements of a batch come to, by table.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) ready: Vec<ReadyRow>,
    pub(crate) waiting: Vec<WaitingRow>,
    pub(crate) events: Vec<EventRow>,
    pub(crate) finished: Vec<Finish>,
}

impl Ends {
    /// Adds what a settlement comes to; `lane` names the lane of a number.
    pub(crate) fn add(
        &mut self,
        settlement: &Settlement,
        found: LeasedRow,
        lane: impl Fn(i64) -> Result<Lane, LedgerError>,
        effects: &mut Effects,
        sealer: &Sealer,
    ) -> Result<SettledAs, LedgerError> {
        let (seq, at) = (settlement.lease.seq, settlement.at);
        let transition = heeding_cancel(&settlement.transition, found.cancel);
        if settlement.lease.held == Held::Waiting {
            effects.waiting -= 1;
            if found.continuation.is_none() {
                effects.unkeyed.push(lane(found.lane)?);
            }
        }
        let LeasedRow { lane: number, mut carried, continuation, cancel } = found;
        carried.counts = transition.counts;
        let number = home(number, carried.counts);
        self.tell(seq, at, &transition, &mut carried);
        let status = match &transition.next {
            NextState::Queued { due_at } => {
                effects.ready.push((lane(number)?, *due_at));
                self.ready.push(ReadyRow { seq, lane: number, due_at: *due_at, carried });
                Status::Queued
            }
            NextState::Waiting { on, due_at } => {
                effects.waits = true;
                effects.waiting += 1;
                let saved = saved(&transition);
                let saved =
                    saved.map(|saved| stored_continuation(&saved, seq, sealer)).transpose()?;
                self.waiting.push(WaitingRow {
                    seq,
                    lane: number,
                    on: *on,
                    due_at: *due_at,
                    continuation: saved.or(continuation),
                    carried,
                });
                Status::Waiting
            }
            next => {
                let keeps = transition.effects.contains(&Effect::KeepAnswer);
                let finish = Finish {
                    seq,
                    at,
                    next: next.clone(),
                    carried,
                    answer: settlement.answer.clone().filter(|_| keeps),
                    serial: settlement.lease.serial,
                    blocks: transition.effects.contains(&Effect::BlockSerialKey),
                    freed: cancel == 2,
                    frees_key: transition.effects.contains(&Effect::FreeKey),
                };
                let status = finish.status();
                effects.ended.push((lane(number)?, settlement.lease.octets));
                self.finished.push(finish);
                status
            }
        };
        Ok(SettledAs { status })
    }

    /// Puts what the transition announces into the timeline.
    fn tell(&mut self, seq: i64, at: Timestamp, transition: &Transition, carried: &mut RunState) {
        let next_at = match transition.next {
            NextState::Queued { due_at } | NextState::Waiting { due_at, .. } => Some(due_at),
            _ => None,
        };
        for effect in &transition.effects {
            if let Effect::Announce { kind, code, status } = effect {
                carried.sequence += 1;
                self.events.push(EventRow {
                    attempt: carried.counts.attempts,
                    status: *status,
                    code: *code,
                    next_at,
                    ..EventRow::plain(seq, carried.sequence, at, *kind)
                });
            }
        }
    }
}

/// What was asked to be called off and would go on is canceled instead; what has ended
/// meanwhile has won the race.
fn heeding_cancel(transition: &Transition, cancel: i64) -> Transition {
    if cancel == 0 || transition.next.is_final() {
        return transition.clone();
    }
    let mut effects = vec![
        Effect::Announce { kind: EventKind::Canceled, code: None, status: None },
        Effect::EraseCredentials,
        Effect::PromoteSerialKey,
    ];
    if transition.counts.contact == UpstreamContact::Nothing {
        effects.push(Effect::FreeKey);
    }
    Transition { next: NextState::Canceled, counts: transition.counts, effects }
}

fn saved(transition: &Transition) -> Option<Continuation> {
    transition.effects.iter().find_map(|effect| match effect {
        Effect::SaveContinuation(continuation) => Some(continuation.clone()),
        _ => None,
    })
}
