//! The decision about an operation after an attempt.
//!
//! [`settle`] is pure: it takes the operation's situation, the attempt's outcome, the time and some
//! randomness, and returns the next state with its effects. The ledger commits the transition and all
//! its effects as one.

use std::time::Duration;

use http::Method;
use rand::Rng;

use super::outcome::is_success_of_a_monitor;
use super::{
    Continuation, Counts, DeliveryGuarantee, Doubt, ErrorCode, EventKind, Failure, OnFailure,
    Outcome, Policy, RequestPurpose, SendState, UpstreamAnswer, UpstreamContact, WaitingFor,
};
use crate::Timestamp;
use crate::http::retry_after::RetryAfter;

/// What the decision needs to know about an operation.
#[derive(Clone, Copy, Debug)]
pub struct SettleInput<'a> {
    /// What was promised.
    pub policy: &'a Policy,
    /// What has been counted, the present attempt included.
    pub counts: Counts,
    /// What the request is for.
    pub purpose: &'a RequestPurpose,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// What comes next, and all that has to be committed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The next state.
    pub next: NextState,
    /// The counts from now on.
    pub counts: Counts,
    /// What goes with it.
    pub effects: Vec<Effect>,
}

/// The state after a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextState {
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

impl NextState {
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
    /// Hold the serial key until a person releases it.
    BlockSerialKey,
    /// Let go of the idempotency key: a repeat with it is another operation.
    FreeKey,
}

/// The pause before an operation runs alone for the first time.
const ALONE_AFTER: Duration = Duration::from_secs(2);
/// How soon an upstream's monitor is asked again when it does not say.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(5);
/// The bounds of an upstream monitor's `Retry-After`.
const FOLLOW_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Decides what comes after an attempt.
pub fn settle(
    standing: SettleInput<'_>,
    outcome: &Outcome,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Transition {
    let SettleInput { policy, counts, purpose, .. } = standing;
    let at_most_once = policy.delivery == DeliveryGuarantee::AtMostOnce;
    let may_ask = policy.recheck.is_some();
    let before = counts.contact;
    let counts = Counts { contact: outcome.contact_after(before), ..counts };
    let client_waits_until = policy.wait.map(|wait| standing.accepted_at + wait);
    let decision = SettleDecision { policy, counts, purpose, before, client_waits_until, now };
    match outcome {
        Outcome::Answered(answer) => decision.answered(answer, rng),
        // Its length says nothing of what became of the request.
        Outcome::TooLarge(answer) if answer.doubt.is_unknown(policy.delivery) => {
            let failure = Failure::caused(ErrorCode::OutcomeUnknown, answer.cause());
            decision.fail(failure.with_status(answer.status), None)
        }
        Outcome::TooLarge(answer) => decision.fail(
            Failure::of(ErrorCode::ResponseTooLarge).with_status(answer.status),
            Some(answer.status),
        ),
        Outcome::Broken { sent: SendState::Perhaps, cause } if at_most_once => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, *cause), None)
        }
        Outcome::Broken { sent: SendState::Perhaps, cause } if policy.is_synchronous() => {
            decision.fail(Failure::of(*cause), None)
        }
        Outcome::Broken { cause, .. } => {
            decision.retry(Failure::of(*cause), RetryAfter::Absent, rng)
        }
        // Whatever the delivery: the upstream has decided, and a repeat would get that answer too.
        Outcome::Unreadable { status } => {
            let cause = ErrorCode::UpstreamProtocol;
            let failure = Failure::caused(ErrorCode::OutcomeUnknown, cause);
            decision.fail(Failure { status: *status, ..failure }, None)
        }
        Outcome::Refuted { cause, status, answered } => {
            let failure = match cause {
                ErrorCode::MonitorStatus => Failure::caused(ErrorCode::UpstreamStatus, *cause),
                cause => Failure::of(*cause),
            };
            let failure = Failure { status: *answered, ..failure };
            decision.refuted(failure, *status, rng)
        }
        Outcome::TookEffect { status } => decision.took_effect(*status),
        Outcome::Unclear { status } => decision.unclear(*status),
        Outcome::Interrupted { sent: SendState::Perhaps } if at_most_once && may_ask => {
            decision.rescued()
        }
        Outcome::Interrupted { sent: SendState::Perhaps } if at_most_once => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::Shutdown), None)
        }
        Outcome::Interrupted { .. } => {
            let counts = Counts { resumes: counts.resumes + 1, ..counts };
            SettleDecision { counts, ..decision }.again_at(now, EventKind::Resumed, None)
        }
        Outcome::Lost if at_most_once && !may_ask => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost), None)
        }
        Outcome::Lost => decision.rescued(),
        Outcome::Canceled { .. } => {
            decision.end(NextState::Canceled, EventKind::Canceled, None, None)
        }
        // A lost attempt may have taken effect, and was not rechecked.
        Outcome::Expired | Outcome::Unroutable if is_in_doubt(policy, counts) => {
            decision.fail(Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost), None)
        }
        Outcome::Expired => decision.not_begun_again(ErrorCode::DeadlineExceeded),
        Outcome::Unroutable => decision.not_begun_again(ErrorCode::RouteRemoved),
        Outcome::StillPending { retry_after } => decision.follow(None, *retry_after),
        Outcome::Unfinished { continuation, retry_after } => {
            decision.go_on_later(continuation.clone(), *retry_after)
        }
        Outcome::NotFollowed => {
            let (unknown, cause) = (ErrorCode::OutcomeUnknown, ErrorCode::MonitorNotFollowed);
            decision.fail(Failure::caused(unknown, cause), None)
        }
        Outcome::NoEnd { cause } => {
            let unknown = ErrorCode::OutcomeUnknown;
            let (code, cause) = if at_most_once { (unknown, *cause) } else { (*cause, unknown) };
            decision.fail(Failure::caused(code, cause), None)
        }
        Outcome::Followed(answer) => {
            decision.conclude(answer, is_success_of_a_monitor(answer.status))
        }
    }
}

/// Whether the upstream is to be asked what came of the attempt before its outcome is
/// settled: it would end without a word of whether the upstream acted otherwise.
pub fn is_asked_about(policy: &Policy, counts: Counts, outcome: &Outcome) -> bool {
    let at_most_once = policy.delivery == DeliveryGuarantee::AtMostOnce;
    let open = match outcome {
        // At least once, the question comes before the next attempt, unless this was the last.
        Outcome::Broken { sent: SendState::Perhaps, .. } => {
            let is_last = policy.is_synchronous() || counts.spent() >= policy.retry.attempts;
            at_most_once || is_last
        }
        // Where the first answer is final, it is passed on, whatever it says.
        Outcome::Answered(answer) | Outcome::TooLarge(answer) | Outcome::Followed(answer) => {
            answer.doubt.is_unknown(policy.delivery) && !policy.is_synchronous()
        }
        Outcome::Unreadable { .. } | Outcome::NoEnd { .. } | Outcome::NotFollowed => true,
        _ => false,
    };
    open && policy.recheck.is_some()
}

/// Whether an attempt that is about to begin follows one that was lost and may have taken
/// effect, so that it may only be sent if the upstream says that it did not.
pub fn is_in_doubt(policy: &Policy, counts: Counts) -> bool {
    // Without a way to ask, it would have ended.
    let at_most_once = policy.delivery == DeliveryGuarantee::AtMostOnce;
    at_most_once && policy.recheck.is_some() && counts.rescues > 0
}

#[derive(Clone, Copy)]
struct SettleDecision<'a> {
    policy: &'a Policy,
    counts: Counts,
    purpose: &'a RequestPurpose,
    /// What the upstream had had before this attempt.
    before: UpstreamContact,
    client_waits_until: Option<Timestamp>,
    now: Timestamp,
}

impl SettleDecision<'_> {
    fn answered(self, answer: &UpstreamAnswer, rng: &mut impl Rng) -> Transition {
        let final_now = self.policy.is_synchronous();
        match &answer.monitor {
            Some(monitor) if !final_now => {
                return self.follow(Some(monitor.clone()), answer.retry_after.wait());
            }
            _ => {}
        }
        let is_met = self.policy.is_met_by_answer(self.purpose, answer);
        if is_met || final_now || !self.worth_repeating(answer) {
            let mut end = self.conclude(answer, is_met);
            // The client is asked to come again, and would only ever be told this once more.
            if final_now && !is_met && answer.is_refusal() {
                end.effects.push(Effect::FreeKey);
            }
            return end;
        }
        let mut counts = self.counts;
        if answer.retry_after.is_given() && matches!(answer.status, 429 | 503) {
            counts.refusals += 1;
        }
        let failure = Failure::of(ErrorCode::UpstreamStatus).with_status(answer.status);
        Self { counts, ..self.after(answer) }.retry(failure, answer.retry_after, rng)
    }

    /// The same, where an earlier sending of the same attempt counts as one that was lost.
    fn after(self, answer: &UpstreamAnswer) -> Self {
        let before = if answer.repeated { UpstreamContact::Lost } else { self.before };
        Self { before, ..self }
    }

    /// Whether another attempt may bring what this answer did not.
    fn worth_repeating(self, answer: &UpstreamAnswer) -> bool {
        match (self.policy.delivery, answer.status) {
            _ if answer.is_refusal() => true,
            (DeliveryGuarantee::AtLeastOnce, status) if self.policy.retry.repeats(status) => true,
            // Another gateway works on it, and a repeat waits there once more.
            (DeliveryGuarantee::AtLeastOnce, 424) => answer.doubt == Doubt::Passing,
            // An earlier attempt may still be at work on it.
            (DeliveryGuarantee::AtLeastOnce, 409) => self.counts.attempts > 1 || answer.repeated,
            _ => false,
        }
    }

    fn conclude(self, answer: &UpstreamAnswer, is_met: bool) -> Transition {
        let answered = Some(answer.status);
        if is_met {
            return self.end(NextState::Succeeded, EventKind::Succeeded, None, answered);
        }
        let failure = match answer.status {
            300..=399 => Failure::of(ErrorCode::UpstreamRedirect),
            _ if answer.doubt.is_unknown(self.policy.delivery) => {
                let unknown = Failure::caused(ErrorCode::OutcomeUnknown, answer.cause());
                // What a monitor says that does not tell of the work is no result to show.
                let kept = answered.filter(|_| answer.cause() != ErrorCode::MonitorStatus);
                return self.fail(unknown.with_status(answer.status), kept);
            }
            400..=499 if answer.cause() == ErrorCode::MonitorStatus => {
                Failure::caused(ErrorCode::UpstreamStatus, ErrorCode::MonitorStatus)
            }
            status if self.after(answer).may_tell_of_a_former_success(status) => {
                Failure::caused(ErrorCode::MayHaveSucceeded, ErrorCode::UpstreamStatus)
            }
            _ => Failure::of(ErrorCode::UpstreamStatus),
        };
        self.fail(failure.with_status(answer.status), answered)
    }

    /// Whether an answer is one that the upstream gives to a repeat of what it has carried out,
    /// and it may have: of an earlier attempt it is unknown. At most once nothing is repeated
    /// before the upstream has said that it did nothing.
    fn may_tell_of_a_former_success(self, status: u16) -> bool {
        let unknown = self.before == UpstreamContact::Lost;
        unknown
            && self.policy.delivery == DeliveryGuarantee::AtLeastOnce
            && match status {
                404 | 410 => self.purpose.method == Method::DELETE,
                409 => matches!(self.purpose.method, Method::POST | Method::PUT | Method::PATCH),
                412 => self.purpose.conditional,
                _ => false,
            }
    }

    fn took_effect(self, status: u16) -> Transition {
        // What a DELETE removed is not found, and nothing is left to show.
        let kept = if matches!(status, 200..=299) { status } else { 204 };
        let end = self.end(NextState::Succeeded, EventKind::Succeeded, None, Some(kept));
        rechecked(end, Some(status))
    }

    fn refuted(self, failure: Failure, status: u16, rng: &mut impl Rng) -> Transition {
        rechecked(self.retry(failure, RetryAfter::Absent, rng), Some(status))
    }

    /// Ends what no further attempt was begun of.
    fn not_begun_again(self, code: ErrorCode) -> Transition {
        let failure = match self.before {
            UpstreamContact::Lost => Failure::caused(code, ErrorCode::OutcomeUnknown),
            UpstreamContact::Nothing | UpstreamContact::Answered => Failure::of(code),
        };
        self.fail(failure, None)
    }

    fn unclear(self, status: Option<u16>) -> Transition {
        let failure = Failure::caused(ErrorCode::OutcomeUnknown, ErrorCode::OwnerLost);
        rechecked(self.fail(failure, None), status)
    }

    fn retry(self, failure: Failure, asked: RetryAfter, rng: &mut impl Rng) -> Transition {
        let status = failure.status;
        if self.counts.spent() >= self.policy.retry.attempts {
            let code = match self.policy.retry.attempts {
                0 | 1 => None,
                _ => Some(ErrorCode::AttemptsExhausted),
            };
            return self.give_up(failure, code);
        }
        let due_at = self.now + self.policy.retry.wait(self.counts.failed(), asked.wait(), rng);
        let why = Some((failure.code, status));
        if self.client_waits_until.is_some_and(|until| due_at >= until) {
            return self.give_up(failure, None);
        }
        if due_at < self.policy.deadline_at {
            return self.again_at(due_at, EventKind::Retrying, why);
        }
        match self.last_moment() {
            Some(due_at) if asked.wait().is_some() && !self.counts.last_try => {
                let counts = Counts { last_try: true, ..self.counts };
                Self { counts, ..self }.again_at(due_at, EventKind::Retrying, why)
            }
            _ => self.give_up(failure, Some(ErrorCode::DeadlineExceeded)),
        }
    }

    /// Ends what would be tried again, with that code; with its own where there is none.
    fn give_up(self, failure: Failure, code: Option<ErrorCode>) -> Transition {
        let status = failure.status;
        // Of an answer that cannot be read, nothing is kept.
        let kept = status.filter(|_| failure.code != ErrorCode::UpstreamProtocol);
        let code = match status {
            Some(status) if self.may_tell_of_a_former_success(status) => {
                Some(ErrorCode::MayHaveSucceeded)
            }
            _ => code,
        };
        let failure = match code {
            Some(code) if code != failure.code => {
                Failure { code, cause: Some(failure.code), status }
            }
            _ => failure,
        };
        self.fail(failure, kept)
    }

    /// When a last attempt begins that still has time before the deadline.
    fn last_moment(self) -> Option<Timestamp> {
        let left = self.policy.deadline_at.since(self.now);
        let reserve = self.policy.timeout.min(left / 2);
        (reserve > Duration::ZERO).then(|| self.now + left.saturating_sub(reserve))
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
            next: NextState::Queued { due_at },
            counts: self.counts,
            effects: vec![Effect::Announce { kind, code, status }],
        }
    }

    /// Waits for the upstream's own monitor; `continuation` is given at the first time. At the
    /// deadline it is due at once: the monitor is asked a last time before the end.
    fn follow(
        self,
        continuation: Option<Continuation>,
        retry_after: Option<Duration>,
    ) -> Transition {
        let pause = retry_after.unwrap_or(FOLLOW_INTERVAL).clamp(FOLLOW_BOUNDS.0, FOLLOW_BOUNDS.1);
        let due_at = (self.now + pause).min(self.policy.deadline_at).max(self.now);
        let effects = match continuation {
            Some(continuation) => vec![
                Effect::Announce { kind: EventKind::Waiting, code: None, status: Some(202) },
                Effect::SaveContinuation(continuation),
            ],
            None => Vec::new(),
        };
        let next = NextState::Waiting { on: WaitingFor::Upstream, due_at };
        Transition { next, counts: self.counts, effects }
    }

    /// Goes on from there soon. That is nothing that anybody has to be told.
    fn go_on_later(self, continuation: Continuation, retry_after: Option<Duration>) -> Transition {
        let later = self.follow(None, retry_after.or(Some(FOLLOW_BOUNDS.0)));
        Transition { effects: vec![Effect::SaveContinuation(continuation)], ..later }
    }

    /// `answered` is the status of the answer that is kept, where there was one.
    fn fail(self, failure: Failure, answered: Option<u16>) -> Transition {
        let code = Some(failure.code);
        self.end(NextState::Failed(failure), EventKind::Failed, code, answered)
    }

    fn end(
        self,
        next: NextState,
        kind: EventKind,
        code: Option<ErrorCode>,
        answered: Option<u16>,
    ) -> Transition {
        let blocks =
            self.policy.on_failure == OnFailure::Block && matches!(next, NextState::Failed(_));
        let mut effects = vec![
            Effect::Announce { kind, code, status: answered },
            Effect::EraseCredentials,
            if blocks { Effect::BlockSerialKey } else { Effect::PromoteSerialKey },
        ];
        if answered.is_some() {
            effects.push(Effect::KeepAnswer);
        }
        if self.counts.contact == UpstreamContact::Nothing && next != NextState::Succeeded {
            effects.push(Effect::FreeKey);
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
