//! Operations that are handed out and cannot be read.
//!
//! Owns what becomes of them. One that is damaged ends, in the transaction that met it. One that
//! another node can read, because it has the key or the release, is left to that node; where it
//! was handed out only to be ended, the columns that are never sealed decide its end. Its
//! invariant: no such operation keeps another one from being handed out.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::commit::effects::Effects;
use crate::error::LedgerError;
use crate::model::{Held, Lease, Leased, Settlement};
use crate::rows::{Plain, ReadRow, RunState, check_pieces, holdings, leased, maybe_time, remains};
use crate::state::Shared;
use cloakroom_domain::operation::{
    Continuation, Counts, ErrorCode, Lane, NextState, OnFailure, Outcome, ReadableParts,
    RequestPurpose, SendState, SettleInput, Work, settle,
};
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::{OperationId, Timestamp};

/// How often more is taken in one claim where something was passed over.
pub(crate) const ROUNDS: usize = 16;
/// The bounds of the pause before another node, or this one, looks at what was left.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// The tasks that this node can do; all of them before it was told.
#[derive(Default)]
pub(crate) struct Tasks(OnceLock<HashSet<Arc<str>>>);

impl Tasks {
    /// The first who says so is right.
    pub(crate) fn are(&self, names: HashSet<Arc<str>>) {
        let _ = self.0.set(names);
    }

    /// Why this node leaves it to others, if so.
    pub(crate) fn unknown(&self, leased: &Leased) -> Option<String> {
        let Work::Task { name, .. } = &leased.work else { return None };
        let known = self.0.get().is_none_or(|names| names.contains(&**name));
        (!known).then(|| format!("this release has no task {name}"))
    }
}

/// What an operation is handed out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// To begin an attempt, or to go on with what waits.
    Carry,
    /// Because its deadline has passed.
    Expire,
    /// Because its node is gone, or has lost it.
    Rescue,
}

/// An operation on its way out.
pub(crate) struct Handed {
    pub(crate) seq: i64,
    pub(crate) lane: Lane,
    /// As it is handed out.
    pub(crate) carried: RunState,
    /// What had been counted before.
    pub(crate) before: Counts,
    pub(crate) held: Held,
    pub(crate) continuation: Result<Option<Continuation>, LedgerError>,
    pub(crate) cancel_asked: bool,
    /// Why its state cannot be read, if so.
    pub(crate) damage: Option<String>,
    pub(crate) used: Use,
}

/// An operation that ends because it cannot be read.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) settlement: Settlement,
    why: String,
}

impl Unread {
    /// The place of its operation.
    pub(crate) fn place(&self) -> i64 {
        self.settlement.lease.seq
    }

    /// Writes down what was done, for after the commit.
    pub(crate) fn noted(&self, effects: &mut Effects) {
        let Settlement { id, lease, transition, .. } = &self.settlement;
        let next = transition.next.clone();
        effects.unread.push(Passed { id: *id, place: lease.seq, next, why: self.why.clone() });
    }
}

/// An operation that was passed over.
#[derive(Debug)]
pub(crate) struct Passed {
    id: OperationId,
    place: i64,
    next: NextState,
    why: String,
}

/// What came of reading an operation.
pub(crate) enum Read {
    Whole(Box<Leased>),
    Ends(Box<Unread>),
    /// Another node may be able to read it.
    Left(String),
}

impl Handed {
    /// What its state is, of a row that has all the columns.
    pub(crate) fn state(row: &impl ReadRow) -> (RunState, Option<String>) {
        match RunState::of(row) {
            Ok(carried) => (carried, None),
            Err(error) => (RunState::salvaged(row), Some(error.to_string())),
        }
    }

    /// Reads it from the row of its request.
    pub(crate) fn read(
        mut self,
        row: Option<&impl ReadRow>,
        sealer: &Sealer,
        now: Timestamp,
    ) -> Result<Read, LedgerError> {
        let Some(row) = row else {
            let why = "its request is missing".to_owned();
            return Ok(Read::Ends(self.damaged(None::<&sqlx::sqlite::SqliteRow>, why, now)));
        };
        if let Some(why) = self.damage.take() {
            return Ok(Read::Ends(self.damaged(Some(row), why, now)));
        }
        let continuation = std::mem::replace(&mut self.continuation, Ok(None));
        let (lane, held, cancel) = (self.lane.clone(), self.held, self.cancel_asked);
        let whole = continuation.and_then(|continuation| {
            let leased = leased(row, lane, &self.carried, held, continuation, cancel, sealer)?;
            self.check_body(row, &leased)?;
            Ok(leased)
        });
        match whole {
            Ok(leased) => Ok(Read::Whole(Box::new(leased))),
            Err(LedgerError::Damaged(why)) => Ok(Read::Ends(self.damaged(Some(row), why, now))),
            Err(LedgerError::Sealed(why) | LedgerError::Later(why)) => {
                Ok(match self.plainly(row, &why, now) {
                    Some(unread) => Read::Ends(unread),
                    None => Read::Left(why),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses a body that cannot be sent whole, where it is to be sent.
    fn check_body(&self, row: &impl ReadRow, leased: &Leased) -> Result<(), LedgerError> {
        match &leased.work {
            Work::Call(request) if self.used == Use::Carry && self.held == Held::Running => {
                check_pieces(row, &request.body)
            }
            _ => Ok(()),
        }
    }

    /// The end of one that is damaged.
    fn damaged(&self, row: Option<&impl ReadRow>, why: String, now: Timestamp) -> Box<Unread> {
        // What only waits for its key, or for its turn, has not run.
        let ran = match self.held {
            Held::Running => self.used == Use::Rescue,
            Held::Waiting => self.used == Use::Carry,
        };
        let counts = self.before;
        let nothing =
            || (None, ReadableParts { delivery: None, on_failure: OnFailure::Skip, counts, ran });
        let (id, remains) = row.map_or_else(nothing, |row| remains(row, counts, ran));
        let id = id.unwrap_or(OperationId::from_bytes([0; 16]));
        let lease = self.lease(row.map(holdings).unwrap_or_default());
        let settlement = Settlement { lease, id, transition: remains.end(), answer: None, at: now };
        Box::new(Unread { settlement, why })
    }

    /// The end of one whose request others can read, where it is to be ended and what decides
    /// about that can be read here.
    fn plainly(&self, row: &impl ReadRow, why: &str, now: Timestamp) -> Option<Box<Unread>> {
        let outcome = match self.used {
            Use::Carry => return None,
            Use::Expire => Outcome::Expired,
            Use::Rescue if self.cancel_asked => Outcome::Canceled { sent: SendState::Perhaps },
            Use::Rescue => Outcome::Lost,
        };
        let Plain { id, policy, accepted_at } = Plain::of(row).ok()?;
        // Neither of these ends depends on what the request asks for.
        let purpose = &RequestPurpose { method: http::Method::POST, conditional: false };
        let standing =
            SettleInput { policy: &policy, counts: self.carried.counts, purpose, accepted_at };
        let transition = settle(standing, &outcome, now, &mut rand::rng());
        let lease = self.lease(holdings(row));
        let settlement = Settlement { lease, id, transition, answer: None, at: now };
        Some(Box::new(Unread { settlement, why: why.to_owned() }))
    }

    fn lease(&self, (serial, octets): (Option<[u8; 16]>, u64)) -> Lease {
        Lease { seq: self.seq, token: self.carried.token, held: self.held, serial, octets }
    }
}

/// Tells of an operation that runs and lay in a lane too. The row in the lane is removed, so that it
/// holds up no other.
pub(crate) fn tell_of_twin(place: i64) {
    tracing::error!(place, "an operation that runs lay in a lane too; that row is removed");
}

/// When what was left is looked at again: soon at first, ever later the longer it waits. Where its
/// deadline comes first, that is when it is ended.
pub(crate) fn again_at(work: Option<&impl ReadRow>, now: Timestamp) -> Timestamp {
    let told = |column| work.and_then(|row| maybe_time(row, column).ok().flatten());
    pause_until(told("accepted_at"), told("deadline_at"), now)
}

fn pause_until(
    accepted_at: Option<Timestamp>,
    deadline_at: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    let waits = accepted_at.map_or(Duration::ZERO, |accepted_at| now.since(accepted_at));
    let again = now + (waits / 8).clamp(PAUSE.0, PAUSE.1);
    deadline_at.filter(|deadline| *deadline > now).map_or(again, |deadline| again.min(deadline))
}

/// Tells of what was passed over, once that is durable.
pub(crate) fn tell(shared: &Shared, effects: &Effects) {
    for Passed { id, place, next, why } in &effects.unread {
        let outcome = match next {
            NextState::Failed(failure) if failure.code == ErrorCode::OutcomeUnknown => {
                "outcome-unknown"
            }
            NextState::Failed(_) => "failed",
            _ => "handed-back",
        };
        count(outcome);
        Shared::finished(next);
        shared.changed([*id]);
        tracing::error!(operation = %id, place, why, outcome, "an operation cannot be read");
    }
    for (place, why) in &effects.left {
        count("left");
        if let Some(times) = shared.strange.due(&shared.clock) {
            tracing::warn!(
                place,
                why,
                times,
                "an operation is left to a node that can read it; if there is none, give this one \
                 the key or the release that wrote it"
            );
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("cloakroom_unreadable_operations_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_looked_at_soon_and_then_ever_later() {
        let accepted = Timestamp::EPOCH;
        let pause = |waited| {
            let now = accepted + Duration::from_secs(waited);
            pause_until(Some(accepted), None, now).since(now).as_secs()
        };
        assert_eq!([0, 8, 80, 480, 9_999].map(pause), [1, 1, 10, 60, 60]);
    }

    #[test]
    fn what_is_left_is_looked_at_when_its_deadline_comes() {
        let (accepted, now) = (Timestamp::EPOCH, Timestamp::EPOCH + Duration::from_secs(800));
        let pause = |deadline| {
            let deadline = accepted + Duration::from_secs(deadline);
            pause_until(Some(accepted), Some(deadline), now).since(now).as_secs()
        };
        assert_eq!([810, 9_999, 800, 1].map(pause), [10, 60, 60, 60]);
    }
}
