//! The executor: runs one attempt from its start to its settlement.
//!
//! Owns the race of an attempt against its time limit, its cancellation and the end of the gateway.
//! Its invariant: a started attempt ends in exactly one settlement, and keeps its slot until the
//! ledger has it. It must not know how the operation came here.

use std::sync::Arc;
use std::time::Duration;

use super::attempt_timeout::AttemptTimeout;
use super::cancels::CancelHandle;
use super::in_flight::InFlightLease;
use super::permits::Permit;
use super::recheck::AttemptSlot;
use super::request::{BodyFault, BodyLoss, StoredBody};
use super::response::{self, ResponseContext};
use super::settle::{self, AttemptResult};
use super::{EngineContext, jobs, recheck, request};
use crate::upstream::SentMarker;
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::HealthSignal;
use cloakroom_domain::operation::{
    DeliveryGuarantee, ErrorCode, Outcome, Policy, RequestPurpose, SendState, Work, is_in_doubt,
};
use cloakroom_ledger::Leased;

/// Starts an attempt in a task of its own.
pub(super) fn start(engine: &Arc<EngineContext>, leased: Leased, mut permit: Option<Permit>) {
    // A disowned lease belongs to another node by now.
    let Some(entry) = engine.in_flight.enter(leased.lease.key()) else { return };
    if let Some(permit) = &mut permit {
        permit.begins();
    }
    engine.metrics.started(&leased.lane.queue);
    let cancel = engine.cancels.enter(leased.id);
    let task = run(Arc::clone(engine), leased, permit, cancel, entry);
    engine.tasks.spawn(task);
}

/// Runs an attempt in quarantine and waits for its end.
pub(super) async fn run_quarantined(
    engine: &Arc<EngineContext>,
    leased: Leased,
    mut permit: Permit,
) {
    let Some(entry) = engine.in_flight.enter(leased.lease.key()) else { return };
    permit.begins();
    engine.metrics.started(&leased.lane.queue);
    let cancel = engine.cancels.enter(leased.id);
    let task = run(Arc::clone(engine), leased, Some(permit), cancel, entry);
    // A panic of the attempt must not end its caller.
    let _ = engine.tasks.spawn(task).await;
}

async fn run(
    engine: Arc<EngineContext>,
    leased: Leased,
    mut permit: Option<Permit>,
    cancel: CancelHandle,
    entry: InFlightLease,
) {
    let began = engine.clock.now();
    let ended = attempt(&engine, &leased, &cancel, &mut permit, began).await;
    let sign = HealthSignal::of(&ended.outcome, time_limit(&leased.policy, began));
    let slot = AttemptSlot::of(&mut permit, sign);
    let ended = recheck::before_the_end(&engine, &leased, &cancel, slot, ended).await;
    // Before the settlement: behind it, the next attempt may be entered already.
    drop(cancel);
    let now = engine.clock.now();
    engine.metrics.ended(&leased.lane.upstream, &ended.outcome, now.since(began));
    if let Some(permit) = &mut permit {
        let allowed = time_limit(&leased.policy, began);
        permit.ended(HealthSignal::of(&ended.outcome, allowed), now);
    }
    // Otherwise the next beat finds it begun and not ended: it may have been sent.
    if settle::commit(&engine, &leased, ended).await.reached {
        entry.settled();
    }
    drop(permit);
}

/// The attempt up to its outcome. Its time limit is for the upstream: waiting until the
/// ledger has room for a piece of a large answer does not count.
async fn attempt(
    engine: &EngineContext,
    leased: &Leased,
    cancel: &CancelHandle,
    permit: &mut Option<Permit>,
    now: Timestamp,
) -> AttemptResult {
    // Otherwise a connection at hand could take the request up before that is looked at.
    if cancel.is_canceled() {
        return AttemptResult::of(Outcome::Canceled { sent: SendState::Nothing });
    }
    if let Some(outcome) = unsendable(engine, leased, now) {
        return AttemptResult::of(outcome);
    }
    let limit = time_limit(&leased.policy, now);
    let node_lease = engine.node_lease.clone();
    let marker = SentMarker::behind(Box::new(move || node_lease.may_begin()));
    let outcome = tokio::select! {
        biased;
        ended = exchange(engine, leased, permit, &marker, limit) => return ended,
        () = cancel.canceled() => Outcome::Canceled { sent: marker.sent() },
        () = engine.tasks.cutting() => Outcome::Interrupted { sent: marker.sent() },
    };
    AttemptResult::of(outcome)
}

/// How long an attempt may take that begins now.
fn time_limit(policy: &Policy, now: Timestamp) -> Duration {
    policy.timeout.min(policy.deadline_at.since(now))
}

/// Why nothing is sent, if so.
fn unsendable(engine: &EngineContext, leased: &Leased, now: Timestamp) -> Option<Outcome> {
    if leased.cancel_asked {
        return Some(Outcome::Canceled { sent: SendState::Nothing });
    }
    if !engine.can_do(leased) {
        return Some(Outcome::Unroutable);
    }
    is_late(&leased.policy, now).then_some(Outcome::Expired)
}

fn is_late(policy: &Policy, now: Timestamp) -> bool {
    now >= policy.deadline_at
}

async fn exchange(
    engine: &EngineContext,
    leased: &Leased,
    permit: &mut Option<Permit>,
    marker: &SentMarker,
    limit: Duration,
) -> AttemptResult {
    if let Work::Task { name, arguments } = &leased.work {
        return jobs::run_job(engine, leased, name, arguments).await;
    }
    let (Work::Call(request), Some((upstream, max_response))) =
        (&leased.work, engine.upstream(&leased.lane.upstream))
    else {
        return AttemptResult::of(Outcome::Unroutable);
    };
    let mut time_left = AttemptTimeout::of(&engine.clock, limit);
    if leased.counts.attempts > 1 {
        let asking = recheck::before_another(engine, leased, permit, &mut time_left);
        if let Some(ended) = Box::pin(asking).await {
            return ended;
        }
    }
    if is_in_doubt(&leased.policy, leased.counts) {
        // The question may have used the time up that the request was to have.
        let limit = time_limit(&leased.policy, engine.clock.now());
        time_left = AttemptTimeout::of(&engine.clock, limit);
    }
    let public = &engine.public(upstream, request);
    let loss = BodyLoss::default();
    let stored = match Box::pin(StoredBody::find(engine, request, &loss)).await {
        Ok(stored) => stored,
        Err(error) => return broken_by_the_ledger(leased, &loss, marker.sent(), error.to_string()),
    };
    let again = || request::call(engine, leased, request, stored.as_ref(), marker);
    // Boxed, because it is large, and each hand it goes through would make room for it anew.
    match time_left.wait_for(Box::pin(upstream.call_following(public, again))).await {
        Err(_) if loss.fault().is_some() => {
            let detail = "the ledger did not answer while the body was sent".to_owned();
            broken_by_the_ledger(leased, &loss, marker.sent(), detail)
        }
        Err(_) => AttemptResult::of(response::late(marker.sent())),
        Ok(Ok(reply)) => {
            let (purpose, policy) = (&RequestPurpose::of(&leased.work), &leased.policy);
            let follows = !engine.settings.unfollowed.contains(&*leased.route);
            let context =
                ResponseContext { upstream, max_response, purpose, policy, public, follows };
            response::of_attempt(engine, context, &mut time_left, reply).await
        }
        // Others may have taken over what it holds: who may not begin hands it back.
        Ok(Err(_)) if marker.was_held() => {
            AttemptResult::of(Outcome::Interrupted { sent: marker.sent() })
        }
        // Nothing was sent, and nothing is known of the upstream.
        Ok(Err(broken)) if broken.is_own => {
            AttemptResult::of(Outcome::Interrupted { sent: marker.sent() })
        }
        Ok(Err(broken)) if loss.fault().is_some() => {
            broken_by_the_ledger(leased, &loss, marker.sent(), broken.detail)
        }
        Ok(Err(broken)) => {
            let outcome = response::outcome_of(&broken);
            AttemptResult { detail: Some(broken.detail), ..AttemptResult::of(outcome) }
        }
    }
}

/// The end of an attempt whose stored body could not be read to its end. Where it is only out of
/// reach, and a repeat is allowed, the attempt counts as cut, and is made again.
fn broken_by_the_ledger(
    leased: &Leased,
    loss: &BodyLoss,
    sent: SendState,
    detail: String,
) -> AttemptResult {
    let may_repeat =
        sent == SendState::Nothing || leased.policy.delivery == DeliveryGuarantee::AtLeastOnce;
    let outcome = match loss.fault() {
        Some(BodyFault::OutOfReach) if may_repeat => Outcome::Interrupted { sent },
        _ => Outcome::Broken { sent, cause: ErrorCode::Unreadable },
    };
    AttemptResult { detail: Some(detail), ..AttemptResult::of(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::operation::{OnFailure, RetryPolicy};

    #[test]
    fn nothing_begins_at_the_deadline() {
        let deadline_at = Timestamp::from_micros(9);
        let (min, max) = (Duration::ZERO, Duration::ZERO);
        let policy = Policy {
            delivery: DeliveryGuarantee::AtMostOnce,
            timeout: Duration::from_secs(1),
            deadline_at,
            retry: RetryPolicy { attempts: 1, min, max, statuses: None },
            wait: None,
            success: None,
            on_failure: OnFailure::Skip,
            recheck: None,
        };
        assert!(is_late(&policy, deadline_at));
        assert!(!is_late(&policy, Timestamp::from_micros(8)));
    }
}
