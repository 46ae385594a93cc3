//! The rescuer: ends what a dead node was running.
//!
//! Owns the end of operations that the ledger assigns to a node which does not run them. What a dead
//! node ran ends as lost: the ledger repeats it where that is safe, else its outcome is unknown. What
//! was handed to this node and never arrived goes back and does not count as an attempt. Several nodes
//! may do this at once: in the ledger each lease has one holder.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::EngineContext;
use super::heartbeat::HeartbeatReport;
use super::settle::{self, AttemptResult};
use cloakroom_domain::operation::{ErrorCode, NextState, Outcome, SendState};
use cloakroom_ledger::{Dead, LeaseKey, Leased};

/// How many are taken over together.
const BATCH: usize = 256;
const BACK_OFF: Duration = Duration::from_secs(1);

/// Takes over what earlier processes ran, until the tasks drain.
pub(super) async fn start(engine: &EngineContext) {
    let dead = engine.ledger.dead_at_open().into_iter();
    let dead = dead.map(|incarnation| Dead { incarnation, beat: None }).collect();
    take_over(engine, dead, "took over the operations that ran when the gateway ended").await;
}

/// Handles the findings of heartbeats until these end.
pub(super) async fn run(engine: Arc<EngineContext>, mut found: watch::Receiver<HeartbeatReport>) {
    while found.changed().await.is_ok() {
        let HeartbeatReport { dead, mismatch, .. } = found.borrow_and_update().clone();
        if !dead.is_empty() {
            take_over(&engine, dead, "took over the operations of a dead node").await;
        }
        if !mismatch.is_empty() {
            give_back(
                &engine,
                mismatch.never_begun,
                &Outcome::Interrupted { sent: SendState::Nothing },
            )
            .await;
            give_back(&engine, mismatch.lost, &Outcome::Lost).await;
        }
    }
}

async fn take_over(engine: &EngineContext, dead: Vec<Dead>, story: &str) {
    let (mut taken, mut unknown) = (0, 0);
    let _claiming = engine.in_flight.begin_claim();
    while !engine.tasks.is_draining() {
        match engine.ledger.claim_orphans(dead.clone(), BATCH, engine.clock.now()).await {
            Ok(orphans) if orphans.is_empty() => break,
            Ok(orphans) => {
                taken += orphans.len();
                let ends = join_all(orphans.iter().map(|orphan| end(engine, orphan))).await;
                unknown += ends.iter().filter(|next| is_unknown(next)).count();
            }
            Err(error) => {
                tracing::warn!(%error, "operations could not be taken over; trying again in a second");
                engine.pause(BACK_OFF).await;
            }
        }
    }
    tell(taken, unknown, story);
}

fn tell(taken: usize, unknown: usize, story: &str) {
    let rescued = taken - unknown;
    for (outcome, count) in [("rescued", rescued), ("outcome-unknown", unknown)] {
        metrics::counter!("cloakroom_rescues_total", "outcome" => outcome).increment(count as u64);
    }
    if unknown > 0 {
        tracing::warn!(
            rescued,
            unknown,
            "{story}; list those with an unknown outcome with `cloakroom ops list --status failed`"
        );
    } else if taken > 0 {
        tracing::info!(rescued, unknown, "{story}");
    }
}

fn is_unknown(next: &NextState) -> bool {
    matches!(next, NextState::Failed(failure) if failure.code == ErrorCode::OutcomeUnknown)
}

async fn end(engine: &EngineContext, orphan: &Leased) -> NextState {
    let outcome = if orphan.cancel_asked {
        Outcome::Canceled { sent: SendState::Perhaps }
    } else {
        Outcome::Lost
    };
    settle::commit(engine, orphan, AttemptResult::of(outcome)).await.next
}

/// Ends one of those. What does not reach the ledger counts as lost from now on, whatever it
/// was: the record that it never started is gone.
async fn hand_back(engine: &EngineContext, leased: &Leased, outcome: Outcome) {
    let Some(entry) = engine.in_flight.enter(leased.lease.key()) else { return };
    if settle::commit(engine, leased, AttemptResult::of(outcome)).await.reached {
        entry.settled();
    }
}

/// Ends what was handed to this node and is not carried out here.
async fn give_back(engine: &EngineContext, keys: Vec<LeaseKey>, outcome: &Outcome) {
    let _claiming = engine.in_flight.begin_claim();
    if keys.is_empty() {
        return;
    }
    let begun = matches!(outcome, Outcome::Lost);
    match engine.ledger.reclaim(keys, begun, engine.clock.now()).await {
        Ok(leased) => {
            tracing::info!(
                count = leased.len(),
                ?outcome,
                "returned operations that this node no longer runs"
            );
            let sent = match outcome {
                Outcome::Interrupted { sent } => *sent,
                _ => SendState::Perhaps,
            };
            let outcome = |leased: &Leased| match leased.cancel_asked {
                true => Outcome::Canceled { sent },
                false => outcome.clone(),
            };
            let ends = leased.iter().map(|it| hand_back(engine, it, outcome(it)));
            join_all(ends).await;
        }
        // The next beat finds them again.
        Err(error) => {
            tracing::warn!(%error, "operations could not be returned; the next heartbeat finds them again");
        }
    }
}
