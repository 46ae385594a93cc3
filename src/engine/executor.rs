//! One attempt: begin, send, classify, keep, settle.
//!
//! Owns the race of an attempt against its time limit, its cancellation and the end of
//! the gateway. Its invariant: an attempt that began ends in exactly one settlement, and
//! its slot is held until that has reached the ledger. It must not know how the
//! operation came here.

use std::sync::Arc;
use std::time::Duration;

use super::allowance::Allowance;
use super::answer::{self, Asking};
use super::cancels::Cancelable;
use super::ending::{self, Ended};
use super::holdings::Holding;
use super::outgoing::Loss;
use super::permits::Permit;
use super::{Shared, jobs, outgoing, recheck};
use crate::upstream::SentMarker;
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::Sign;
use cloakroom_domain::operation::{ErrorCode, Outcome, Policy, Purpose, Sent, Work};
use cloakroom_ledger::Leased;

/// Starts an attempt in a task of its own.
pub(super) fn start(shared: &Arc<Shared>, leased: Leased, mut permit: Option<Permit>) {
    // One that was disowned is somebody else's by now.
    let Some(holding) = shared.holdings.enter(leased.lease.key()) else { return };
    if let Some(permit) = &mut permit {
        permit.begins();
    }
    shared.meters.started(&leased.lane.queue);
    let cancelable = shared.cancels.enter(leased.id);
    let task = carry_out(Arc::clone(shared), leased, permit, cancelable, holding);
    shared.tasks.spawn(task);
}

/// Carries an attempt out, and waits for its end, whatever that is.
pub(super) async fn alone(shared: &Arc<Shared>, leased: Leased, mut permit: Permit) {
    let Some(holding) = shared.holdings.enter(leased.lease.key()) else { return };
    permit.begins();
    shared.meters.started(&leased.lane.queue);
    let cancelable = shared.cancels.enter(leased.id);
    let task = carry_out(Arc::clone(shared), leased, Some(permit), cancelable, holding);
    // A panic of it is no end of who waits for it.
    let _ = shared.tasks.spawn(task).await;
}

async fn carry_out(
    shared: Arc<Shared>,
    leased: Leased,
    mut permit: Option<Permit>,
    cancelable: Cancelable,
    holding: Holding,
) {
    let began = shared.clock.now();
    let ended = attempt(&shared, &leased, &cancelable, began).await;
    let ended = recheck::before_the_end(&shared, &leased, &cancelable, ended).await;
    // Before the settlement: behind it, the next attempt may be entered already.
    drop(cancelable);
    let now = shared.clock.now();
    shared.meters.ended(&leased.lane.upstream, &ended.outcome, now.since(began));
    if let Some(permit) = &mut permit {
        let allowed = time_limit(&leased.policy, began);
        permit.ended(Sign::of(&ended.outcome, allowed), now);
    }
    // Otherwise the next beat finds it begun and not ended: it may have been sent.
    if ending::commit(&shared, &leased, ended).await.reached {
        holding.settled();
    }
    drop(permit);
}

/// The attempt up to its outcome. Its time limit is for the upstream: waiting until the
/// ledger has room for a piece of a large answer does not count.
async fn attempt(
    shared: &Shared,
    leased: &Leased,
    cancelable: &Cancelable,
    now: Timestamp,
) -> Ended {
    // Otherwise a connection at hand could take the request up before that is looked at.
    if cancelable.is_called_off() {
        return Ended::of(Outcome::Canceled { sent: Sent::Nothing });
    }
    if let Some(outcome) = unsendable(shared, leased, now) {
        return Ended::of(outcome);
    }
    let limit = time_limit(&leased.policy, now);
    let pulse = shared.pulse.clone();
    let marker = SentMarker::behind(Box::new(move || pulse.may_begin()));
    let outcome = tokio::select! {
        biased;
        ended = exchange(shared, leased, &marker, limit) => return ended,
        () = cancelable.called_off() => Outcome::Canceled { sent: marker.sent() },
        () = shared.tasks.cutting() => Outcome::Interrupted { sent: marker.sent() },
    };
    Ended::of(outcome)
}

/// How long an attempt may take that begins now.
fn time_limit(policy: &Policy, now: Timestamp) -> Duration {
    policy.timeout.min(policy.deadline_at.since(now))
}

/// Why nothing is sent, if so.
fn unsendable(shared: &Shared, leased: &Leased, now: Timestamp) -> Option<Outcome> {
    if leased.cancel_asked {
        return Some(Outcome::Canceled { sent: Sent::Nothing });
    }
    if !shared.can_do(leased) {
        return Some(Outcome::Unroutable);
    }
    is_late(&leased.policy, now).then_some(Outcome::Expired)
}

fn is_late(policy: &Policy, now: Timestamp) -> bool {
    now >= policy.deadline_at
}

async fn exchange(shared: &Shared, leased: &Leased, marker: &SentMarker, limit: Duration) -> Ended {
    if let Work::Task { name, arguments } = &leased.work {
        return jobs::carry_on(shared, leased, name, arguments).await;
    }
    let (Work::Call(request), Some((upstream, max_response))) =
        (&leased.work, shared.upstream(&leased.lane.upstream))
    else {
        return Ended::of(Outcome::Unroutable);
    };
    let loss = Loss::default();
    let again = || outgoing::call(shared, leased, request, marker, &loss);
    let mut allowance = Allowance::of(&shared.clock, limit);
    if leased.counts.attempts > 1
        && let Some(ended) = Box::pin(recheck::before_another(shared, leased, &mut allowance)).await
    {
        return ended;
    }
    let public = &shared.public(upstream, request);
    // Boxed, because it is large, and each hand it goes through would make room for it anew.
    match allowance.wait_for(Box::pin(upstream.call_following(public, again))).await {
        Err(_) => Ended::of(answer::late(marker.sent())),
        Ok(Ok(reply)) => {
            let (purpose, policy) = (&Purpose::of(&leased.work), &leased.policy);
            let follows = !shared.settings.unfollowed.contains(&*leased.route);
            let asking = Asking { upstream, max_response, purpose, policy, public, follows };
            answer::of_attempt(shared, asking, &mut allowance, reply).await
        }
        // Others may have taken over what it holds: who may not begin hands it back.
        Ok(Err(_)) if marker.was_held() => Ended::of(Outcome::Interrupted { sent: marker.sent() }),
        // Nothing was sent, and nothing is known of the upstream.
        Ok(Err(broken)) if broken.is_own => Ended::of(Outcome::Interrupted { sent: marker.sent() }),
        Ok(Err(broken)) if loss.happened() => {
            let outcome = Outcome::Broken { sent: marker.sent(), cause: ErrorCode::Unreadable };
            Ended { detail: Some(broken.detail), ..Ended::of(outcome) }
        }
        Ok(Err(broken)) => {
            let outcome = answer::outcome_of(&broken);
            Ended { detail: Some(broken.detail), ..Ended::of(outcome) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::operation::{Delivery, OnFailure, RetryPolicy};

    #[test]
    fn nothing_begins_at_the_deadline() {
        let deadline_at = Timestamp::from_micros(9);
        let (min, max) = (Duration::ZERO, Duration::ZERO);
        let policy = Policy {
            delivery: Delivery::AtMostOnce,
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
