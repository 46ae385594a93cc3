//! The one decision about what comes after an attempt.
//!
//! [`settle`] is pure: where an operation stands, what came of the attempt, the time and
//! some randomness go in, and the next state with its effects comes out. The ledger
//! commits the transition and all its effects as one.

use std::time::Duration;

use rand::Rng;

use super::{
    Answer, Continuation, Counts, Delivery, ErrorCode, EventKind, Failure, OnFailure, Outcome,
    Policy, Sent, WaitingFor,
};
use crate::domain::Timestamp;

/// What the decision needs to know about an operation.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// What was promised.
    pub policy: &'a Policy,
    /// What has been counted, the present attempt included.
    pub counts: Counts,
}

/// What comes next, and all that has to be committed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The next state.
    pub next: Next,
    /// The counts from now on.
    pub counts: Counts,
    /// What goes with it.
    pub effects: Vec<Effect>,
}

/// The state after a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ready for another attempt at that instant.
    Queued {
        /// When.
        due_at: Timestamp,
    },
    /// Waiting, holding no slot.
    Waiting {
        /// For what.
        on: WaitingFor,
        /// When to look again.
        due_at: Timestamp,
    },
    /// Done.
    Succeeded,
    /// Given up.
    Failed(Failure),
    /// Called off.
    Canceled,
}

impl Next {
    /// Whether the operation ends with it.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed(_) | Self::Canceled)
    }
}

/// What is committed together with a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put this into the timeline, and tell those who subscribe to it.
    Announce {
        /// What happened.
        kind: EventKind,
        /// What went wrong, where something did.
        code: Option<ErrorCode>,
        /// The upstream's status, where it answered.
        status: Option<u16>,
    },
    /// Keep the upstream's answer as the result.
    KeepAnswer,
    /// Keep what a waiting operation needs to go on.
    SaveContinuation(Continuation),
    /// Erase the credentials of the stored request.
    EraseCredentials,
    /// Let the next operation of the serial key go.
    PromoteSerialKey,
    /// Let nobody of the serial key go until a person does.
    BlockSerialKey,
}

/// The pause before an operation runs alone for the first time.
const ALONE_AFTER: Duration = Duration::from_secs(2);
/// How soon an upstream's monitor is asked again when it does not say.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(5);
/// The bounds of an upstream monitor's `Retry-After`.
const FOLLOW_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Decides what comes after an attempt.
pub fn settle(
    standing: Standing<'_>,
    outcome: &Outcome,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Transition {
    let Standing { policy, counts } = standing;
    let at_most_once = policy.delivery == Delivery::AtMostOnce;
    let may_ask = policy.recheck.is_some();
    let decision = Decision { policy, counts, now };
    match outcome {
        Outcome::Answered(answer) => decision.answered(answer, rng),
        Outcome::TooLarge(answer) => decision.fail(
            Failure::of(ErrorCode::ResponseTooLarge).with_status(answer.status),
            Some(answer.status),
        ),
        Outcome::Broken { sent: Sent::Perhaps, cause } if at_most_once => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, *cause), None)
        }
        Outcome::Broken { sent: Sent::Perhaps, cause } if policy.first_answer_is_final => {
            decision.fail(Failure::of(*cause), None)
        }
        Outcome::Broken { cause, .. } => decision.retry(Failure::of(*cause), None, rng),
        Outcome::Refuted { cause } => decision.refuted(*cause, rng),
        Outcome::TookEffect { status } => decision.took_effect(*status),
        Outcome::Unclear { status } => decision.unclear(*status),
        Outcome::Interrupted { sent: Sent::Perhaps } if at_most_once && may_ask => {
            decision.rescued()
        }
        Outcome::Interrupted { sent: Sent::Perhaps } if at_most_once => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::Shutdown), None)
        }
        Outcome::Interrupted { .. } => {
            let counts = Counts { resumes: counts.resumes + 1, ..counts };
            Decision { counts, ..decision }.again_at(now, EventKind::Resumed, None)
        }
        Outcome::Lost if at_most_once && !may_ask => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost), None)
        }
        Outcome::Lost => decision.rescued(),
        Outcome::Canceled => decision.end(Next::Canceled, EventKind::Canceled, None, None),
        // What was lost may have taken effect, and nobody has asked.
        Outcome::Expired | Outcome::Unroutable if is_in_doubt(policy, counts) => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost), None)
        }
        Outcome::Expired => decision.fail(Failure::of(ErrorCode::DeadlineExceeded), None),
        Outcome::Unroutable => decision.fail(Failure::of(ErrorCode::RouteRemoved), None),
        Outcome::StillPending { retry_after } => decision.follow(None, *retry_after),
        Outcome::Unfinished { continuation, retry_after } => {
            decision.go_on_later(continuation.clone(), *retry_after)
        }
        Outcome::NotFollowed => {
            let (unknown, cause) = (ErrorCode::OutcomeUnknown, ErrorCode::MonitorNotFollowed);
            decision.fail(Failure::caused(unknown, cause), None)
        }
        Outcome::Followed(answer) => decision.conclude(answer),
    }
}

/// Whether the upstream is to be asked what came of the attempt before its outcome is
/// settled: it would end as unknown otherwise.
pub fn is_asked_about(policy: &Policy, outcome: &Outcome) -> bool {
    let open = matches!(outcome, Outcome::Broken { sent: Sent::Perhaps, .. });
    open && policy.delivery == Delivery::AtMostOnce && policy.recheck.is_some()
}

/// Whether an attempt that is about to begin follows one that was lost and may have taken
/// effect, so that it may only be sent if the upstream says that it did not.
pub fn is_in_doubt(policy: &Policy, counts: Counts) -> bool {
    // Without a way to ask, it would have ended.
    let at_most_once = policy.delivery == Delivery::AtMostOnce;
    at_most_once && policy.recheck.is_some() && counts.rescues > 0
}

#[derive(Clone, Copy)]
struct Decision<'a> {
    policy: &'a Policy,
    counts: Counts,
    now: Timestamp,
}

impl Decision<'_> {
    fn answered(self, answer: &Answer, rng: &mut impl Rng) -> Transition {
        let final_now = self.policy.first_answer_is_final;
        match &answer.monitor {
            Some(monitor) if !final_now => {
                return self.follow(Some(monitor.clone()), answer.retry_after);
            }
            _ => {}
        }
        if answer.is_success() || final_now || !self.worth_repeating(answer) {
            return self.conclude(answer);
        }
        let mut counts = self.counts;
        if answer.retry_after.is_some() && matches!(answer.status, 429 | 503) {
            counts.refusals += 1;
        }
        let failure = Failure::of(ErrorCode::UpstreamStatus).with_status(answer.status);
        Self { counts, ..self }.retry(failure, answer.retry_after, rng)
    }

    /// Whether another attempt may bring what this answer did not.
    fn worth_repeating(self, answer: &Answer) -> bool {
        match (self.policy.delivery, answer.status) {
            (_, 425 | 429) | (Delivery::AtLeastOnce, 408 | 500 | 502 | 503 | 504) => true,
            // Refused before it was acted on, or so the named time says.
            (Delivery::AtMostOnce, 503) => answer.retry_after.is_some(),
            // An earlier attempt may still be at work on it.
            (Delivery::AtLeastOnce, 409) => self.counts.attempts > 1,
            _ => false,
        }
    }

    fn conclude(self, answer: &Answer) -> Transition {
        if answer.is_success() {
            return self.end(Next::Succeeded, EventKind::Succeeded, None, Some(answer.status));
        }
        let redirected = matches!(answer.status, 300..=399);
        let code = if redirected { ErrorCode::UpstreamRedirect } else { ErrorCode::UpstreamStatus };
        self.fail(Failure::of(code).with_status(answer.status), Some(answer.status))
    }

    fn took_effect(self, status: u16) -> Transition {
        let end = self.end(Next::Succeeded, EventKind::Succeeded, None, Some(status));
        rechecked(end, Some(status))
    }

    fn refuted(self, cause: ErrorCode, rng: &mut impl Rng) -> Transition {
        rechecked(self.retry(Failure::of(cause), None, rng), Some(404))
    }

    fn unclear(self, status: Option<u16>) -> Transition {
        let failure = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost);
        rechecked(self.fail(failure, None), status)
    }

    fn retry(self, failure: Failure, floor: Option<Duration>, rng: &mut impl Rng) -> Transition {
        let status = failure.status;
        if self.counts.spent() >= self.policy.retry.attempts {
            let failure = match self.policy.retry.attempts {
                0 | 1 => failure,
                _ => Failure {
                    code: ErrorCode::AttemptsExhausted,
                    cause: Some(failure.code),
                    status,
                },
            };
            return self.fail(failure, status);
        }
        let due_at = self.now + self.policy.retry.wait(self.counts.failed(), floor, rng);
        if due_at >= self.policy.deadline_at {
            let failure =
                Failure { code: ErrorCode::DeadlineExceeded, cause: Some(failure.code), status };
            return self.fail(failure, status);
        }
        self.again_at(due_at, EventKind::Retrying, Some((failure.code, status)))
    }

    /// Its node died or let go of it: again at once; alone, after a pause that grows, so
    /// that a row of deaths that have nothing to do with it does not use its chances up.
    fn rescued(self) -> Transition {
        let counts = Counts { rescues: self.counts.rescues + 1, ..self.counts };
        Self { counts, ..self }.rescued_once_more()
    }

    /// Gives up on it, though its node died; what may have taken effect is unknown.
    fn lost(self, code: ErrorCode) -> Transition {
        let in_doubt = is_in_doubt(self.policy, self.counts);
        let code = if in_doubt { ErrorCode::OutcomeUnknown } else { code };
        self.fail(Failure::caused(code, ErrorCode::OwnerLost), None)
    }

    fn rescued_once_more(self) -> Transition {
        if self.counts.is_beyond_rescue() {
            return self.lost(ErrorCode::RescuesExhausted);
        }
        let alone = self.counts.alone_before();
        let pause = alone.map_or(Duration::ZERO, |times| ALONE_AFTER * 3_u32.pow(times));
        let due_at = self.now + pause;
        if pause > Duration::ZERO && due_at >= self.policy.deadline_at {
            return self.lost(ErrorCode::DeadlineExceeded);
        }
        self.again_at(due_at, EventKind::Rescued, None)
    }

    fn again_at(
        self,
        due_at: Timestamp,
        kind: EventKind,
        why: Option<(ErrorCode, Option<u16>)>,
    ) -> Transition {
        let (code, status) = why.map_or((None, None), |(code, status)| (Some(code), status));
        Transition {
            next: Next::Queued { due_at },
            counts: self.counts,
            effects: vec![Effect::Announce { kind, code, status }],
        }
    }

    /// Waits for the upstream's own monitor; `continuation` is given at the first time.
    fn follow(
        self,
        continuation: Option<Continuation>,
        retry_after: Option<Duration>,
    ) -> Transition {
        if self.now >= self.policy.deadline_at {
            return self.fail(Failure::of(ErrorCode::DeadlineExceeded), None);
        }
        let pause = retry_after.unwrap_or(FOLLOW_INTERVAL).clamp(FOLLOW_BOUNDS.0, FOLLOW_BOUNDS.1);
        let due_at = (self.now + pause).min(self.policy.deadline_at);
        let effects = match continuation {
            Some(continuation) => vec![
                Effect::Announce { kind: EventKind::Waiting, code: None, status: Some(202) },
                Effect::SaveContinuation(continuation),
            ],
            None => Vec::new(),
        };
        let next = Next::Waiting { on: WaitingFor::Upstream, due_at };
        Transition { next, counts: self.counts, effects }
    }

    /// Goes on from there soon. That is nothing that anybody has to be told.
    fn go_on_later(self, continuation: Continuation, retry_after: Option<Duration>) -> Transition {
        let later = self.follow(None, retry_after.or(Some(FOLLOW_BOUNDS.0)));
        match later.next {
            Next::Waiting { .. } => {
                Transition { effects: vec![Effect::SaveContinuation(continuation)], ..later }
            }
            _ => later,
        }
    }

    /// `answered` is the status of the answer that is kept, where there was one.
    fn fail(self, failure: Failure, answered: Option<u16>) -> Transition {
        let code = Some(failure.code);
        self.end(Next::Failed(failure), EventKind::Failed, code, answered)
    }

    fn end(
        self,
        next: Next,
        kind: EventKind,
        code: Option<ErrorCode>,
        answered: Option<u16>,
    ) -> Transition {
        let blocks = self.policy.on_failure == OnFailure::Block && matches!(next, Next::Failed(_));
        let mut effects = vec![
            Effect::Announce { kind, code, status: answered },
            Effect::EraseCredentials,
            if blocks { Effect::BlockSerialKey } else { Effect::PromoteSerialKey },
        ];
        if answered.is_some() {
            effects.push(Effect::KeepAnswer);
        }
        Transition { next, counts: self.counts, effects }
    }
}

/// The same, with the upstream's word of it first.
fn rechecked(mut transition: Transition, status: Option<u16>) -> Transition {
    let told = Effect::Announce { kind: EventKind::Rechecked, code: None, status };
    transition.effects.insert(0, told);
    transition
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
