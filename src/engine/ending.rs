//! The end of an attempt.
//!
//! Owns the way of an outcome into the ledger: the decision is the domain's, and it is
//! repeated to the ledger until that has it or somebody else holds the operation.

use super::Shared;
use super::insist::insist;
use super::meters::outcome_name;
use crate::domain::operation::{Effect, Next, Outcome, Standing, Transition, settle};
use crate::ledger::{KeptAnswer, Leased, Settlement};

/// How an attempt ended.
pub(super) struct Ended {
    /// What counts for the decision.
    pub(super) outcome: Outcome,
    /// The upstream's answer, where there was one.
    pub(super) answer: Option<KeptAnswer>,
    /// What went wrong, for logs.
    pub(super) detail: Option<String>,
}

impl Ended {
    /// An end without an answer.
    pub(super) const fn of(outcome: Outcome) -> Self {
        Self { outcome, answer: None, detail: None }
    }
}

/// Decides what comes next and commits it.
pub(super) async fn commit(shared: &Shared, leased: &Leased, ended: Ended) {
    let at = shared.clock.now();
    let standing = Standing { policy: &leased.policy, counts: leased.counts };
    let transition = settle(standing, &ended.outcome, at, &mut rand::rng());
    log(leased, &ended, &transition);
    let kept = transition.effects.contains(&Effect::KeepAnswer);
    let answer = ended.answer.filter(|_| kept);
    let settlement =
        Settlement { lease: leased.lease.clone(), id: leased.id, transition, answer, at };
    match insist(shared, || shared.ledger.settle(settlement.clone())).await {
        Ok(Ok(_)) => {}
        Ok(Err(stale)) => tracing::debug!(operation = %leased.id, "not settled: {stale}"),
        Err(error) => tracing::error!(
            operation = %leased.id,
            %error,
            "the end of an attempt could not be written down; the next start takes it over"
        ),
    }
}

fn log(leased: &Leased, ended: &Ended, transition: &Transition) {
    let outcome = outcome_name(&ended.outcome);
    let detail = ended.detail.as_deref().unwrap_or_default();
    match &transition.next {
        Next::Failed(failure) => tracing::info!(
            operation = %leased.id,
            route = &*leased.route,
            upstream = &*leased.lane.upstream,
            attempt = leased.counts.attempts,
            code = %failure.code,
            status = failure.status,
            outcome,
            detail,
            "an operation failed: {}",
            failure.message()
        ),
        next => tracing::debug!(
            operation = %leased.id,
            route = &*leased.route,
            upstream = &*leased.lane.upstream,
            attempt = leased.counts.attempts,
            outcome,
            detail,
            ?next,
            "an attempt ended"
        ),
    }
}
