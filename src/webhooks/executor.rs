//! The executor: runs one delivery attempt from its start to its settlement.
//!
//! Owns the race of an attempt against its timeout and the end of the gateway. Its invariant:
//! every attempt ends in exactly one settlement and one report to the scheduler.

use std::sync::Arc;
use std::time::Duration;

use super::receiver_cache::{self, NoAddress};
use super::{DeliveryTransport, WebhookState};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::scheduler::{AttemptReport, Dispatch, SendPermit};
use cloakroom_domain::webhooks::{
    DeliveryDecision, DeliveryError, DeliveryProgress, ReceiverAnswer, ReceiverKey, settle,
};
use cloakroom_ledger::{AttemptRecord, DeliveryLease, LeasedDelivery};

/// How long the sender may exceed its own timeout before it counts as stuck.
const SLACK: Duration = Duration::from_secs(2);
/// How long a delivery waits when the keys or headers of its receiver cannot be used.
const UNUSABLE: Duration = Duration::from_mins(1);
/// How long a delivery waits when its receiver could not be read.
const UNREAD: Duration = Duration::from_secs(1);

/// Starts every attempt that may start now, each in a task of its own.
pub(super) fn begin<S: DeliveryTransport>(shared: &Arc<WebhookState<S>>) {
    while !shared.tasks.is_draining() {
        let turn = shared.traffic().begin(shared.clock.now());
        let Some(Dispatch { item, leave }) = turn else { return };
        let running = RunningAttempt {
            lease: item.lease,
            receiver: item.receiver,
            leave: Some(leave),
            shared: Arc::clone(shared),
        };
        shared.tasks.spawn(execute(running, item));
    }
}

/// An attempt that takes up a slot.
struct RunningAttempt<S: DeliveryTransport> {
    shared: Arc<WebhookState<S>>,
    lease: DeliveryLease,
    receiver: ReceiverKey,
    leave: Option<SendPermit>,
}

impl<S: DeliveryTransport> RunningAttempt<S> {
    /// Ends the attempt and frees its slot.
    fn ended(&mut self, came: AttemptReport) {
        let Some(leave) = self.leave.take() else { return };
        let now = self.shared.clock.now();
        let away = self.shared.traffic().ended(leave, came, now, &mut rand::rng());
        self.shared.give_back(&away);
        begin(&self.shared);
        self.shared.made_room();
    }
}

/// A panic frees the slot, too. The comparison with the ledger finds the delivery.
impl<S: DeliveryTransport> Drop for RunningAttempt<S> {
    fn drop(&mut self) {
        if self.leave.is_some() {
            self.ended(AttemptReport { sign: None, took: Duration::ZERO });
            self.shared.traffic().settled(self.receiver);
            self.shared.in_flight.leave(self.lease);
        }
    }
}

async fn execute<S: DeliveryTransport>(mut running: RunningAttempt<S>, delivery: LeasedDelivery) {
    let shared = Arc::clone(&running.shared);
    let (at, began) = (shared.clock.now(), shared.clock.elapsed());
    let answer = attempt(&shared, &delivery, at).await;
    let took = shared.clock.elapsed().saturating_sub(began);
    let came = match answer {
        Ok(answer) => {
            metrics::histogram!("cloakroom_delivery_duration_seconds").record(took);
            let word = answer.error.map_or("delivered", DeliveryError::as_str);
            metrics::counter!("cloakroom_delivery_attempts_total", "outcome" => word).increment(1);
            let came = AttemptReport { sign: answer.sign(), took };
            let timing = AttemptTiming { at, took, now: shared.clock.now() };
            let (record, decision) = decided(&delivery, answer, timing);
            shared.settle(&delivery, record, decision);
            came
        }
        Err(Unsent { due_at }) => {
            shared.return_at(&delivery, due_at);
            AttemptReport { sign: None, took }
        }
    };
    running.ended(came);
}

/// No attempt was made: the delivery goes back, and is due again then.
struct Unsent {
    due_at: Timestamp,
}

/// An attempt that was made.
#[derive(Clone, Copy)]
struct AttemptTiming {
    at: Timestamp,
    took: Duration,
    now: Timestamp,
}

/// The record of an attempt, and what the retry schedule decides.
fn decided(
    delivery: &LeasedDelivery,
    answer: ReceiverAnswer,
    attempt: AttemptTiming,
) -> (AttemptRecord, DeliveryDecision) {
    let LeasedDelivery { attempts, refusals, deadline_at, .. } = *delivery;
    let standing = DeliveryProgress { attempts, refusals, deadline_at };
    let next = settle(standing, answer.attempted(), attempt.now, &mut rand::rng());
    let next_at = match next {
        DeliveryDecision::Again { due_at, .. } => Some(due_at),
        DeliveryDecision::Over(_) => None,
    };
    let record = AttemptRecord {
        number: attempts,
        at: attempt.at,
        took: attempt.took,
        status: answer.status,
        code: answer.error.map(|error| error.as_str().to_owned()),
        next_at,
    };
    (record, next)
}

/// Makes the attempt within its timeout. An attempt that is not made, or that the end of the
/// gateway cuts off, does not count: the delivery is handed back.
async fn attempt<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    delivery: &LeasedDelivery,
    now: Timestamp,
) -> Result<ReceiverAnswer, Unsent> {
    let back = |wait: Duration| Unsent { due_at: shared.clock.now() + wait };
    let address = match receiver_cache::address(shared, delivery, now).await {
        Ok(address) => address,
        Err(NoAddress::TakesNothing) => return Err(back(Duration::ZERO)),
        Err(NoAddress::Ledger(error)) => {
            tracing::debug!(receiver = %delivery.receiver, %error, "a receiver could not be read from the ledger");
            return Err(back(UNREAD));
        }
        Err(NoAddress::Unusable(why)) => {
            tracing::warn!(receiver = %delivery.receiver, why, "deliveries to a receiver are held back: its keys or headers cannot be used");
            return Err(back(UNUSABLE));
        }
    };
    if !(shared.settings.may_begin)() {
        return Err(back(Duration::ZERO));
    }
    let sending = shared.sender.send(&address, delivery, now);
    tokio::select! {
        biased;
        answer = shared.clock.timeout(shared.settings.timeout + SLACK, sending) => {
            let late = ReceiverAnswer { status: None, error: Some(DeliveryError::Timeout), retry_after: None, is_cut: false };
            // Without an attempt, nothing is known about the receiver.
            answer.unwrap_or(Some(late)).ok_or_else(|| back(UNREAD))
        }
        () = shared.tasks.cutting() => Err(back(Duration::ZERO)),
    }
}
