//! The dispatcher: claims deliveries when slots are free.
//!
//! Owns the way of a delivery from due to leased. Its invariant: a claimed delivery is entered as
//! in flight before any other task can look, and is either sent or handed back. The order of
//! receivers is decided by [`Traffic`](cloakroom_domain::webhooks::scheduler::DeliveryScheduler).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::loops::WebhookLoop;
use super::{DeliveryTransport, WebhookState, executor, ownership};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_domain::webhooks::scheduler::ReceiverTerms;
use cloakroom_ledger::{ClaimedDeliveries, DeliveryWant, LedgerError};

/// How long the dispatcher waits after a failed claim.
const BACK_OFF: Duration = Duration::from_secs(1);
/// How long a receiver is skipped when another node has its due deliveries.
const ELSEWHERE: Duration = Duration::from_millis(100);
/// The longest pause between two looks, so that a stuck loop is noticed.
const IDLE: Duration = Duration::from_secs(10);
/// How many deliveries one commit puts on hold.
const BATCH: usize = 500;

/// Claims until the tasks drain.
pub(super) async fn run<S: DeliveryTransport>(shared: Arc<WebhookState<S>>) {
    while !shared.tasks.is_draining() {
        let now = shared.clock.now();
        let wake = match step(&shared, now).await {
            Ok(wake) => wake.unwrap_or(now + IDLE).min(now + IDLE),
            Err(error) => {
                tracing::warn!(%error, "no delivery could be claimed; trying again in a second");
                shared.pause(BACK_OFF).await;
                continue;
            }
        };
        shared.loop_health.succeeded(WebhookLoop::Dispatcher, now);
        if wake <= now {
            continue;
        }
        tokio::select! {
            () = shared.tasks.draining() => {}
            () = shared.ledger.delivery_is_due() => {}
            () = shared.freed.notified() => {}
            () = shared.clock.sleep_until(wake) => {}
        }
    }
    let waiting = shared.traffic().clear();
    shared.give_back(&waiting);
}

/// Claims once what is due and can be taken on. Returns when to look again by itself, if
/// that is known; `now` where there may be more at once.
pub(super) async fn step<S: DeliveryTransport>(
    shared: &Arc<WebhookState<S>>,
    now: Timestamp,
) -> Result<Option<Timestamp>, LedgerError> {
    let claiming = shared.claiming.lock().await;
    if shared.tasks.is_draining() {
        return Ok(None);
    }
    if !(shared.settings.may_begin)() {
        return Ok(Some(now + BACK_OFF));
    }
    // First this: what is due from here on wakes by itself.
    shared.wanting.store(true, Ordering::SeqCst);
    let lanes = ownership::served(shared, now);
    shared.wanting.store(!lanes.is_empty(), Ordering::SeqCst);
    metrics::gauge!("cloakroom_delivery_lanes_due").set(lanes.len() as f64);
    let owners = shared.ledger.owners();
    let due = lanes.iter().map(|lane| (lane.receiver, lane.again));
    let plan = {
        let whose = |receiver| ReceiverTerms {
            principal: owners.of(receiver),
            rate: owners.allowed_rate(receiver),
        };
        shared.traffic().plan(due, whose, now)
    };
    if plan.wants.is_empty() {
        let next = shared.ledger.next_delivery(now);
        return Ok(next.into_iter().chain(plan.again_at).min());
    }
    let want = |(&(receiver, again), &limit)| DeliveryWant { receiver, again, limit };
    let wants: Vec<_> = plan.wants.iter().map(want).collect();
    let claimed = match shared.ledger.claim_deliveries(wants.clone(), now).await {
        Ok(claimed) => claimed,
        Err(error) => {
            let mut traffic = shared.traffic();
            for want in wants {
                // If the claim was committed all the same, the comparison with the ledger finds it.
                traffic.arrived((want.receiver, want.again), want.limit, Vec::new());
            }
            return Err(error);
        }
    };
    let mut out_of_reach = Vec::new();
    for claimed in claimed {
        out_of_reach.extend(arrived(shared, claimed, now));
    }
    drop(claiming);
    executor::begin(shared);
    for receiver in out_of_reach {
        see_to(shared, receiver, now).await?;
    }
    Ok(Some(now))
}

/// Takes in what a claim brought for one want. Whose it is, where something is due and
/// could not be had.
fn arrived<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    claimed: ClaimedDeliveries,
    now: Timestamp,
) -> Option<ReceiverKey> {
    let ClaimedDeliveries { want, leased, next_due, .. } = claimed;
    let out_of_reach = leased.is_empty() && next_due.is_some_and(|due| due <= now);
    if !leased.is_empty() {
        shared.busy.store(true, Ordering::Relaxed);
    }
    leased.iter().for_each(|delivery| shared.in_flight.enter(delivery.lease));
    let away = shared.traffic().arrived((want.receiver, want.again), want.limit, leased);
    shared.give_back(&away);
    out_of_reach.then_some(want.receiver)
}

/// Holds what is due for a receiver that takes nothing; otherwise another node is at it.
async fn see_to<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    receiver: ReceiverKey,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let found = shared.ledger.receiver(receiver).await?;
    if found.is_some_and(|receiver| receiver.active) {
        shared.traffic().leave_alone(receiver, now + ELSEWHERE, now);
        return Ok(());
    }
    let count = shared.ledger.hold_deliveries(receiver, BATCH, now).await?;
    tracing::debug!(%receiver, count, "deliveries put on hold");
    Ok(())
}
