//! Settlement: the result of an attempt is written to the ledger.
//!
//! Owns the way of an outcome into the ledger. The domain decides what follows; this module repeats
//! the write until the ledger has it or another node holds the operation.

use super::metrics::outcome_name;
use super::{EngineContext, body_writer, ledger_write};
use cloakroom_domain::operation::{
    Effect, ErrorCode, NextState, Outcome, RequestPurpose, SettleInput, Transition, settle,
};
use cloakroom_ledger::{KeptAnswer, Leased, LedgerError, Settlement};

/// The result of an attempt.
pub(super) struct AttemptResult {
    /// The outcome, which the decision is based on.
    pub(super) outcome: Outcome,
    /// The upstream's answer, where there was one.
    pub(super) answer: Option<KeptAnswer>,
    /// What went wrong, for logs.
    pub(super) detail: Option<String>,
}

impl AttemptResult {
    /// An end without an answer.
    pub(super) const fn of(outcome: Outcome) -> Self {
        Self { outcome, answer: None, detail: None }
    }
}

/// The result of a settlement.
pub(super) struct SettleResult {
    /// The decision.
    pub(super) next: NextState,
    /// Whether the ledger has it, or another node the operation.
    pub(super) reached: bool,
}

/// Decides what follows, commits it, and returns the decision.
pub(super) async fn commit(
    engine: &EngineContext,
    leased: &Leased,
    ended: AttemptResult,
) -> SettleResult {
    let at = engine.clock.now();
    let purpose = RequestPurpose::of(&leased.work);
    let standing = SettleInput {
        policy: &leased.policy,
        counts: leased.counts,
        purpose: &purpose,
        accepted_at: leased.accepted_at,
    };
    let transition = settle(standing, &ended.outcome, at, &mut rand::rng());
    log(leased, &ended, &transition);
    let next = transition.next.clone();
    let kept = transition.effects.contains(&Effect::KeepAnswer);
    let (answer, unwanted) = if kept { (ended.answer, None) } else { (None, ended.answer) };
    if let Some(unwanted) = unwanted {
        body_writer::discard_body(engine, &unwanted.body);
    }
    let settlement =
        Settlement { lease: leased.lease.clone(), id: leased.id, transition, answer, at };
    match ledger_write::write(engine, || engine.ledger.settle(settlement.clone())).await {
        Ok(Ok(_)) => {}
        Ok(Err(stale)) => {
            tracing::debug!(operation = %leased.id, "not settled: {stale}");
            discard_answer(engine, &settlement);
        }
        Err(error) => {
            tracing::error!(
                operation = %leased.id,
                %error,
                "the result of an attempt could not be written down: it counts as lost, and this node, \
                 another one or the next start takes it over"
            );
            // After other errors the ledger may have it all the same.
            if matches!(
                error,
                LedgerError::Damaged(_) | LedgerError::Sealed(_) | LedgerError::Later(_)
            ) {
                discard_answer(engine, &settlement);
            }
            return SettleResult { next, reached: false };
        }
    }
    SettleResult { next, reached: true }
}

fn discard_answer(engine: &EngineContext, settlement: &Settlement) {
    if let Some(answer) = &settlement.answer {
        body_writer::discard_body(engine, &answer.body);
    }
}

/// A log line on the result of an attempt, with the fields that operators search for.
macro_rules! tell {
    ($level:ident, $leased:expr, $ended:expr, $($more:tt)*) => {
        tracing::$level!(
            operation = %$leased.id,
            route = &*$leased.route,
            upstream = &*$leased.lane.upstream,
            attempt = $leased.counts.attempts,
            outcome = outcome_name(&$ended.outcome),
            detail = $ended.detail.as_deref(),
            $($more)*
        )
    };
}

/// A failure is a warning, unless the upstream refused what the client sent.
fn log(leased: &Leased, ended: &AttemptResult, transition: &Transition) {
    match &transition.next {
        NextState::Failed(failure) => {
            let (code, status) = (failure.code.as_str(), failure.status);
            let cause = failure.cause.map(ErrorCode::as_str);
            let is_unknown = failure.code == ErrorCode::OutcomeUnknown;
            if status.is_some_and(|status| status < 500) && !is_unknown {
                tell!(
                    info,
                    leased,
                    ended,
                    code,
                    cause,
                    status,
                    "the upstream refused an operation"
                );
            } else {
                tell!(
                    warn,
                    leased,
                    ended,
                    code,
                    cause,
                    status,
                    "an operation failed; `cloakroom ops show` says what to do"
                );
            }
        }
        NextState::Queued { due_at } => tell!(
            info, leased, ended, due_at = %due_at, "an attempt failed and will be made again"
        ),
        next => tell!(debug, leased, ended, ?next, "an attempt ended"),
    }
}
