//! The settler: writes the outcome of attempts into the ledger, in batches.
//!
//! Owns the batches: outcomes that arrive during a commit go into the next one. Its invariant:
//! each outcome is repeated to the ledger until it is stored or another lease has replaced this
//! one; and the loop runs until nothing is in flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::ledger_write;
use super::loops::WebhookLoop;
use super::{DeliveryTransport, WebhookState};
use cloakroom_domain::webhooks::{DeliveryDecision, ReceiverKey, ScheduleEnd};
use cloakroom_ledger::{DeliverySettled, DeliverySettlement, LedgerError};

/// How many ends go down in one commit at most.
const BATCH: usize = 512;
/// The longest without a sign of life.
const IDLE: Duration = Duration::from_secs(10);

/// A settlement on its way to the ledger, and the receiver whose delivery it settles.
#[derive(Clone, Debug)]
pub(super) struct PendingSettlement {
    pub(super) receiver: ReceiverKey,
    pub(super) settlement: DeliverySettlement,
}

/// Settles from before anything `begins` until the tasks drain and nothing is held.
pub(super) async fn run<S: DeliveryTransport>(
    shared: Arc<WebhookState<S>>,
    mut ends: mpsc::UnboundedReceiver<PendingSettlement>,
    begins: impl Future<Output = ()>,
) {
    begins.await;
    let mut over = std::pin::pin!(over(&shared));
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            count = ends.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = &mut over => return,
            () = shared.clock.sleep(IDLE) => {}
        }
        if !batch.is_empty() {
            step(&shared, batch).await;
        }
        shared.loop_health.succeeded(WebhookLoop::Settler, shared.clock.now());
    }
}

/// Completes when the gateway drains and all that was handed out is settled.
async fn over<S: DeliveryTransport>(shared: &WebhookState<S>) {
    shared.tasks.draining().await;
    // A claim that is on its way may bring something; none follows it.
    drop(shared.claiming.lock().await);
    shared.in_flight.emptied().await;
}

/// Settles a batch.
pub(super) async fn step<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    batch: Vec<PendingSettlement>,
) {
    let settlements: Vec<_> = batch.iter().map(|pending| pending.settlement.clone()).collect();
    let written = || shared.ledger.settle_deliveries(settlements.clone());
    match ledger_write::write(shared, written).await {
        Ok(settled) => {
            for (settlement, settled) in settlements.iter().zip(settled) {
                count(shared, settlement, settled);
            }
        }
        Err(LedgerError::Damaged(error) | LedgerError::Sealed(error)) if batch.len() > 1 => {
            // One of them may be at fault, and the others are not.
            tracing::warn!(error, "deliveries are settled one by one");
            for settlement in &settlements {
                let alone = || shared.ledger.settle_deliveries(vec![settlement.clone()]);
                match ledger_write::write(shared, alone).await {
                    Ok(settled) => {
                        settled.into_iter().for_each(|how| count(shared, settlement, how));
                    }
                    Err(error) => complain(&error),
                }
            }
        }
        Err(error) => complain(&error),
    }
    for pending in &batch {
        shared.traffic().settled(pending.receiver);
        shared.in_flight.leave(pending.settlement.lease());
    }
    shared.made_room();
}

fn complain(error: &LedgerError) {
    tracing::error!(
        %error,
        "the outcome of a delivery attempt could not be stored; the attempt will be repeated"
    );
}

fn count<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    settlement: &DeliverySettlement,
    settled: DeliverySettled,
) {
    // A delivery that went back has no outcome yet.
    let Some(attempt) = settlement.attempt() else { return };
    let webhook_id = &*attempt.message;
    if settled == DeliverySettled::Stale {
        return tracing::debug!(webhook_id, "not settled: another node has claimed the delivery");
    }
    match attempt.decision {
        DeliveryDecision::Over(ScheduleEnd::Delivered) => counted("delivered"),
        DeliveryDecision::Over(ScheduleEnd::Exhausted) => {
            given_up(shared, webhook_id, attempt.receiver, "exhausted");
        }
        DeliveryDecision::Over(ScheduleEnd::Gone) => {
            given_up(shared, webhook_id, attempt.receiver, "gone");
        }
        DeliveryDecision::Again { .. } => {}
    }
}

/// Says that a delivery came to an end that its receiver has not got.
pub(super) fn given_up<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    webhook_id: &str,
    receiver: ReceiverKey,
    outcome: &'static str,
) {
    let name = shared.receivers.name(receiver).unwrap_or_else(|| receiver.to_string());
    tracing::info!(webhook_id, receiver = name, outcome, "a delivery was given up");
    counted(outcome);
}

fn counted(outcome: &'static str) {
    metrics::counter!("cloakroom_deliveries_total", "outcome" => outcome).increment(1);
}
