//! Recheck: asking an upstream whether an earlier attempt took effect.
//!
//! Owns the request; the domain decides what its answer means ([`RecheckFinding`]) and what follows
//! ([`settle`](cloakroom_domain::operation::settle)). Its invariant: a recheck changes nothing at the
//! upstream. It runs within the time of an attempt, or of a monitor poll, and within its slot until
//! the upstream asks for patience: then the slot is free for others.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::attempt_timeout::AttemptTimeout;
use super::cancels::CancelHandle;
use super::permits::Permit;
use super::response::{self, ResponseContext};
use super::settle::AttemptResult;
use super::slot_pool::{AcquirePriority, PoolSlot};
use super::{EngineContext, body_writer, request};
use crate::upstream::{Call, SentMarker, UpstreamResponse};
use cloakroom_domain::breaker::HealthSignal;
use cloakroom_domain::http::idempotency::{sent_octets, value_of};
use cloakroom_domain::http::retry_after::RetryAfter;
use cloakroom_domain::operation::{
    DeliveryGuarantee, ErrorCode, Outcome, RecheckFinding, RecheckSubjects, RequestPurpose,
    SendState, Work, is_asked_about, is_in_doubt,
};
use cloakroom_ledger::Leased;

/// The answer to a recheck.
enum RecheckReply {
    /// It took effect.
    Did(Box<UpstreamResponse>),
    /// It did not; with the status that says so.
    DidNot(u16),
    /// It cannot tell yet, and may be asked again.
    NotYet { status: u16, retry_after: RetryAfter },
    /// None of these; with its status, if it answered.
    Nothing(Option<u16>),
}

/// What an attempt holds of this node's limits while it asks.
pub(super) struct AttemptSlot<'a> {
    permit: Option<&'a mut Option<Permit>>,
    /// What the attempt says about its upstream, if anything.
    sign: Option<HealthSignal>,
    waits: Option<PoolSlot>,
}

impl<'a> AttemptSlot<'a> {
    pub(super) fn of(permit: &'a mut Option<Permit>, sign: Option<HealthSignal>) -> Self {
        Self { permit: Some(permit), sign, waits: None }
    }

    /// A monitor poll holds no slot.
    const fn none() -> Self {
        Self { permit: None, sign: None, waits: None }
    }

    /// Gives the slot up until the attempt ends, unless too many wait without one.
    fn give_up(&mut self, engine: &EngineContext) {
        let Some(permit) = self.permit.as_deref_mut() else { return };
        if let Some(held) = permit
            && let Some(place) = engine.patient.take(AcquirePriority::Handoff)
        {
            held.ended(self.sign, engine.clock.now());
            *permit = None;
            self.waits = Some(place);
        }
    }

    /// Whether the slot has been given up: then nothing may be sent in this attempt.
    const fn is_given_up(&self) -> bool {
        self.waits.is_some()
    }
}

/// Path and query that the upstream is asked at about an operation, if it can be asked.
fn target(leased: &Leased) -> Option<String> {
    let key = sent_octets(leased.upstream_key.as_deref(), leased.id);
    leased.policy.recheck.as_ref()?.filled(RecheckSubjects {
        idempotency_key: &key,
        idempotency_key_value: &value_of(&key),
        operation_id: &leased.id.to_string(),
        client_reference: leased.client_reference.as_deref().unwrap_or_default(),
    })
}

/// Asks before another attempt; how that ends where none is to be sent.
pub(super) async fn before_another(
    engine: &EngineContext,
    leased: &Leased,
    permit: &mut Option<Permit>,
    time_left: &mut AttemptTimeout<'_>,
) -> Option<AttemptResult> {
    let in_doubt = is_in_doubt(&leased.policy, leased.counts);
    let mut slot = AttemptSlot::of(permit, None);
    let word = match target(leased) {
        Some(target) if in_doubt => {
            Box::pin(ask_patiently(engine, leased, target, &mut slot, time_left)).await
        }
        Some(target) => Box::pin(ask(engine, leased, &target, time_left)).await,
        None => RecheckReply::Nothing(None),
    };
    match word {
        RecheckReply::Did(reply) => kept(engine, leased, time_left, *reply).await,
        RecheckReply::Nothing(status) if in_doubt => {
            Some(AttemptResult::of(Outcome::Unclear { status }))
        }
        // It is sent once it has a slot again, after the same question.
        RecheckReply::DidNot(_) if slot.is_given_up() => {
            Some(AttemptResult::of(Outcome::Interrupted { sent: SendState::Nothing }))
        }
        RecheckReply::DidNot(_) | RecheckReply::NotYet { .. } | RecheckReply::Nothing(_) => None,
    }
}

/// Asks before an operation would end with an unknown outcome.
pub(super) async fn before_the_end(
    engine: &EngineContext,
    leased: &Leased,
    cancel: &CancelHandle,
    mut slot: AttemptSlot<'_>,
    ended: AttemptResult,
) -> AttemptResult {
    let Some(target) = target_where_open(leased, &ended) else { return ended };
    let asking = found_out(engine, leased, target, &ended.outcome, &mut slot, Duration::MAX);
    let found = tokio::select! {
        biased;
        found = Box::pin(asking) => found,
        () = cancel.canceled() => None,
        // The next start would send it again, and the upstream has accepted it.
        () = engine.tasks.cutting(), if matches!(ended.outcome, Outcome::NotFollowed) => None,
        // The next start asks.
        () = engine.tasks.cutting() => {
            Some(AttemptResult::of(Outcome::Interrupted { sent: SendState::Perhaps }))
        }
    };
    in_place_of(engine, ended, found)
}

/// Asks before an operation would end with an unknown outcome because its monitor leaves that open;
/// no longer than `limit`. A task that is dropped meanwhile has changed nothing: the monitor is
/// asked again.
pub(super) async fn before_a_monitor_ends_it(
    engine: &EngineContext,
    leased: &Leased,
    ended: AttemptResult,
    limit: Duration,
) -> AttemptResult {
    let Some(target) = target_where_open(leased, &ended) else { return ended };
    let mut slot = AttemptSlot::none();
    let asking = found_out(engine, leased, target, &ended.outcome, &mut slot, limit);
    let found = Box::pin(asking).await;
    in_place_of(engine, ended, found)
}

/// Where the upstream is asked about an operation, if it can be and that end leaves it open.
fn target_where_open(leased: &Leased, ended: &AttemptResult) -> Option<String> {
    target(leased).filter(|_| is_asked_about(&leased.policy, leased.counts, &ended.outcome))
}

async fn found_out(
    engine: &EngineContext,
    leased: &Leased,
    target: String,
    outcome: &Outcome,
    slot: &mut AttemptSlot<'_>,
    limit: Duration,
) -> Option<AttemptResult> {
    let cause = match outcome {
        Outcome::Broken { cause, .. } | Outcome::NoEnd { cause } => *cause,
        Outcome::Unreadable { .. } => ErrorCode::UpstreamProtocol,
        Outcome::NotFollowed => ErrorCode::MonitorNotFollowed,
        Outcome::Followed(answer) | Outcome::TooLarge(answer) => answer.cause(),
        _ => ErrorCode::UpstreamStatus,
    };
    let left = leased.policy.deadline_at.since(engine.clock.now());
    let limit = leased.policy.timeout.min(left).max(LEAST).min(limit);
    let mut time_left = AttemptTimeout::of(&engine.clock, limit);
    match Box::pin(ask_patiently(engine, leased, target, slot, &mut time_left)).await {
        RecheckReply::Did(reply) => kept(engine, leased, &mut time_left, *reply).await,
        // The upstream has accepted it, so it may be done later: it is not sent again.
        RecheckReply::DidNot(_) if matches!(outcome, Outcome::NotFollowed) => None,
        RecheckReply::DidNot(status) => {
            Some(AttemptResult::of(Outcome::Refuted { cause, status, answered: None }))
        }
        RecheckReply::NotYet { .. } | RecheckReply::Nothing(_) => None,
    }
}

/// Replaces a result by the finding of a recheck, if there is one.
fn in_place_of(
    engine: &EngineContext,
    ended: AttemptResult,
    found: Option<AttemptResult>,
) -> AttemptResult {
    let Some(found) = found else { return ended };
    // The answer that left it open is the last one, where no other attempt follows.
    if let Outcome::Refuted { cause, status, .. } = found.outcome {
        let answered = match ended.outcome {
            Outcome::Unreadable { status } => status,
            _ => ended.answer.as_ref().map(|answer| answer.status),
        };
        return AttemptResult { outcome: Outcome::Refuted { cause, status, answered }, ..ended };
    }
    if let Some(unwanted) = ended.answer {
        body_writer::discard_body(engine, &unwanted.body);
    }
    AttemptResult { detail: ended.detail, ..found }
}

/// The least time for a recheck, also where the deadline has just passed.
const LEAST: Duration = Duration::from_secs(5);

/// The least pause before the same question.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks, and asks again while the upstream cannot tell yet and there is time. In between, no slot is
/// held.
async fn ask_patiently(
    engine: &EngineContext,
    leased: &Leased,
    target: String,
    slot: &mut AttemptSlot<'_>,
    time_left: &mut AttemptTimeout<'_>,
) -> RecheckReply {
    let mut times = 0;
    loop {
        let word = Box::pin(ask(engine, leased, &target, time_left)).await;
        let RecheckReply::NotYet { status, retry_after } = word else { return word };
        times += 1;
        let pause = leased.policy.retry.wait(times, retry_after.wait(), &mut rand::rng());
        let pause = pause.max(PAUSE);
        if !time_left.has(pause) {
            return RecheckReply::Nothing(Some(status));
        }
        slot.give_up(engine);
        if time_left.wait_for(engine.clock.sleep(pause)).await.is_err() {
            return RecheckReply::Nothing(Some(status));
        }
    }
}

async fn ask(
    engine: &EngineContext,
    leased: &Leased,
    target: &str,
    time_left: &mut AttemptTimeout<'_>,
) -> RecheckReply {
    let (Work::Call(request), Some((upstream, _))) =
        (&leased.work, engine.upstream(&leased.lane.upstream))
    else {
        return RecheckReply::Nothing(None);
    };
    let marker = SentMarker::new();
    let again = || Call {
        method: Method::GET,
        target: target.to_owned(),
        fields: request::monitor_fields(leased.id, request),
        body: Bytes::new().into(),
        delivery: DeliveryGuarantee::AtLeastOnce,
        is_rechecked: false,
        marker: marker.clone(),
    };
    let public = &engine.public(upstream, request);
    match time_left.wait_for(Box::pin(upstream.call_following(public, again))).await {
        Ok(Ok(reply)) => {
            let status = reply.status.as_u16();
            match RecheckFinding::of(&request.method, status) {
                RecheckFinding::TookEffect => RecheckReply::Did(Box::new(reply)),
                RecheckFinding::NoEffect => RecheckReply::DidNot(status),
                RecheckFinding::Nothing if matches!(status, 425 | 429 | 503) => {
                    let retry_after = RetryAfter::of(&reply.fields, engine.clock.now());
                    RecheckReply::NotYet { status, retry_after }
                }
                RecheckFinding::Nothing => RecheckReply::Nothing(Some(status)),
            }
        }
        Ok(Err(broken)) => {
            tracing::debug!(operation = %leased.id, detail = %broken, "could not recheck");
            RecheckReply::Nothing(None)
        }
        Err(_) => RecheckReply::Nothing(None),
    }
}

async fn kept(
    engine: &EngineContext,
    leased: &Leased,
    time_left: &mut AttemptTimeout<'_>,
    reply: UpstreamResponse,
) -> Option<AttemptResult> {
    if !reply.status.is_success() {
        return Some(response::of_a_removal(reply.status.as_u16()));
    }
    let (upstream, max_response) = engine.upstream(&leased.lane.upstream)?;
    let (purpose, policy) = (&RequestPurpose::of(&leased.work), &leased.policy);
    let Work::Call(request) = &leased.work else { return None };
    let public = &engine.public(upstream, request);
    let context =
        ResponseContext { upstream, max_response, purpose, policy, public, follows: false };
    Some(response::of_recheck(engine, context, time_left, reply).await)
}
