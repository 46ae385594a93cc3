//! Asking an upstream whether an earlier attempt took effect.
//!
//! Owns the question; what its answer means is the domain's to say ([`Finding`]). Its invariant: the question changes nothing at the upstream, and
//! is asked within a slot and an attempt's time, or in the place and time of asking a monitor. What follows is decided by
//! [`settle`](cloakroom_domain::operation::settle).

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::allowance::Allowance;
use super::answer::{self, Asking};
use super::cancels::Cancelable;
use super::ending::Ended;
use super::{Shared, outgoing, stash};
use crate::upstream::{Call, Reply, SentMarker};
use cloakroom_domain::http::idempotency::{sent_octets, value_of};
use cloakroom_domain::operation::{
    Delivery, ErrorCode, Finding, Outcome, Purpose, Sent, Subjects, Work, is_asked_about,
    is_in_doubt,
};
use cloakroom_ledger::Leased;

/// What the upstream says.
enum Word {
    /// It took effect.
    Did(Box<Reply>),
    /// It did not; with the status that says so.
    DidNot(u16),
    /// Neither; with its status, if it answered.
    Nothing(Option<u16>),
}

/// Path and query that the upstream is asked at about an operation, if it can be asked.
fn target(leased: &Leased) -> Option<String> {
    let key = sent_octets(leased.upstream_key.as_deref(), leased.id);
    leased.policy.recheck.as_ref()?.filled(Subjects {
        idempotency_key: &key,
        idempotency_key_value: &value_of(&key),
        operation_id: &leased.id.to_string(),
        client_reference: leased.client_reference.as_deref().unwrap_or_default(),
    })
}

/// Asks before another attempt; how that ends where none is to be sent.
pub(super) async fn before_another(
    shared: &Shared,
    leased: &Leased,
    allowance: &mut Allowance<'_>,
) -> Option<Ended> {
    let word = match target(leased) {
        Some(target) => Box::pin(ask(shared, leased, target, allowance)).await,
        None => Word::Nothing(None),
    };
    match word {
        Word::Did(reply) => kept(shared, leased, allowance, *reply).await,
        Word::Nothing(status) if is_in_doubt(&leased.policy, leased.counts) => {
            Some(Ended::of(Outcome::Unclear { status }))
        }
        Word::DidNot(_) | Word::Nothing(_) => None,
    }
}

/// Asks before an operation would end with an unknown outcome.
pub(super) async fn before_the_end(
    shared: &Shared,
    leased: &Leased,
    cancelable: &Cancelable,
    ended: Ended,
) -> Ended {
    let Some(target) = target_where_open(leased, &ended) else { return ended };
    let found = tokio::select! {
        biased;
        found = Box::pin(found_out(shared, leased, target, &ended.outcome, Duration::MAX)) => found,
        () = cancelable.called_off() => None,
        // The next start asks.
        () = shared.tasks.cutting() => {
            Some(Ended::of(Outcome::Interrupted { sent: Sent::Perhaps }))
        }
    };
    in_place_of(shared, ended, found)
}

/// Asks before an operation would end with an unknown outcome because its monitor leaves that open;
/// no longer than `limit`. A task that is dropped meanwhile has changed nothing: the monitor is
/// asked again.
pub(super) async fn before_a_monitor_ends_it(
    shared: &Shared,
    leased: &Leased,
    ended: Ended,
    limit: Duration,
) -> Ended {
    let Some(target) = target_where_open(leased, &ended) else { return ended };
    let found = Box::pin(found_out(shared, leased, target, &ended.outcome, limit)).await;
    in_place_of(shared, ended, found)
}

/// Where the upstream is asked about an operation, if it can be and that end leaves it open.
fn target_where_open(leased: &Leased, ended: &Ended) -> Option<String> {
    target(leased).filter(|_| is_asked_about(&leased.policy, &ended.outcome))
}

async fn found_out(
    shared: &Shared,
    leased: &Leased,
    target: String,
    outcome: &Outcome,
    limit: Duration,
) -> Option<Ended> {
    let cause = match outcome {
        Outcome::Broken { cause, .. } => *cause,
        Outcome::Unreadable { .. } => ErrorCode::UpstreamProtocol,
        _ => ErrorCode::UpstreamStatus,
    };
    let left = leased.policy.deadline_at.since(shared.clock.now());
    let limit = leased.policy.timeout.min(left).max(LEAST).min(limit);
    let mut allowance = Allowance::of(&shared.clock, limit);
    match Box::pin(ask(shared, leased, target, &mut allowance)).await {
        Word::Did(reply) => kept(shared, leased, &mut allowance, *reply).await,
        Word::DidNot(status) => Some(Ended::of(Outcome::Refuted { cause, status })),
        Word::Nothing(_) => None,
    }
}

/// What the question brought stands in the place of an end, if it brought anything.
fn in_place_of(shared: &Shared, ended: Ended, found: Option<Ended>) -> Ended {
    let Some(found) = found else { return ended };
    if let Some(unwanted) = ended.answer {
        stash::let_go(shared, &unwanted.body);
    }
    Ended { detail: ended.detail, ..found }
}

/// What a question gets at least, also where the deadline has just passed.
const LEAST: Duration = Duration::from_secs(5);

async fn ask(
    shared: &Shared,
    leased: &Leased,
    target: String,
    allowance: &mut Allowance<'_>,
) -> Word {
    let (Work::Call(request), Some((upstream, _))) =
        (&leased.work, shared.upstream(&leased.lane.upstream))
    else {
        return Word::Nothing(None);
    };
    let marker = SentMarker::new();
    let again = || Call {
        method: Method::GET,
        target: target.clone(),
        fields: outgoing::asking_fields(leased.id, request),
        body: Bytes::new().into(),
        delivery: Delivery::AtLeastOnce,
        marker: marker.clone(),
    };
    let public = &shared.public(upstream, request);
    match allowance.wait_for(Box::pin(upstream.call_following(public, again))).await {
        Ok(Ok(reply)) => {
            let status = reply.status.as_u16();
            match Finding::of(&request.method, status) {
                Finding::TookEffect => Word::Did(Box::new(reply)),
                Finding::NoEffect => Word::DidNot(status),
                Finding::Nothing => Word::Nothing(Some(status)),
            }
        }
        Ok(Err(broken)) => {
            tracing::debug!(operation = %leased.id, detail = %broken, "could not recheck");
            Word::Nothing(None)
        }
        Err(_) => Word::Nothing(None),
    }
}

async fn kept(
    shared: &Shared,
    leased: &Leased,
    allowance: &mut Allowance<'_>,
    reply: Reply,
) -> Option<Ended> {
    if !reply.status.is_success() {
        return Some(answer::of_a_removal(reply.status.as_u16()));
    }
    let (upstream, max_response) = shared.upstream(&leased.lane.upstream)?;
    let (purpose, policy) = (&Purpose::of(&leased.work), &leased.policy);
    let Work::Call(request) = &leased.work else { return None };
    let public = &shared.public(upstream, request);
    let asking = Asking { upstream, max_response, purpose, policy, public, follows: false };
    Some(answer::of_recheck(shared, asking, allowance, reply).await)
}
