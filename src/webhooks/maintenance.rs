//! The maintenance loop: orphaned deliveries, expired deliveries, gauges and pruning.

use std::sync::Arc;
use std::time::Duration;

use super::loops::WebhookLoop;
use super::{DeliveryTransport, WebhookState, metrics, ownership, settler};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::HELD;
use cloakroom_ledger::{DeliverySettlement, LedgerError};

const INTERVAL: Duration = Duration::from_secs(1);
/// Rounds between two looks at the nodes.
const NODES: u64 = 3;
/// Rounds between two comparisons of what is held.
const COMPARE: u64 = 5;
/// Rounds between two counts of what waits.
const COUNT: u64 = 15;
/// Rounds between two looks at what is too old.
const OLD: u64 = 60;
/// Rounds before anything is given up unsent: deliveries that became late while no node was
/// running, or because a clock was wrong, are tried once more before that.
pub(super) const CHANCE: u64 = 3600;
/// Deliveries that have been due for so long may be beyond their deadline.
const LONG_DUE: Duration = Duration::from_hours(1);
/// How many deliveries one commit changes, so that other commits do not wait long.
const BATCH: usize = 500;

/// Reclaims deliveries of former incarnations and reads due times, repeated until both succeed. False if draining began first.
pub(super) async fn start<S: DeliveryTransport>(shared: &WebhookState<S>) -> bool {
    loop {
        match begin(shared).await {
            Ok(()) => return true,
            Err(error) => {
                tracing::warn!(%error, "webhooks cannot start yet; trying again in a second");
            }
        }
        if !shared.pause(INTERVAL).await {
            return false;
        }
    }
}

async fn begin<S: DeliveryTransport>(shared: &WebhookState<S>) -> Result<(), LedgerError> {
    take_back(shared).await?;
    ownership::look(shared).await?;
    shared.ledger.look_for_deliveries().await
}

/// Runs a round every second until the tasks drain.
pub(super) async fn run<S: DeliveryTransport>(shared: Arc<WebhookState<S>>) {
    for round in 0.. {
        match step(&shared, round).await {
            Ok(()) => shared.loop_health.succeeded(WebhookLoop::Maintenance, shared.clock.now()),
            Err(error) => tracing::warn!(%error, "webhook maintenance failed; trying again"),
        }
        if !shared.pause(INTERVAL).await {
            return;
        }
    }
}

/// Frees what is stored for webhooks when a write finds the disk full, until the tasks drain.
pub(super) async fn make_room<S: DeliveryTransport>(shared: Arc<WebhookState<S>>) {
    loop {
        tokio::select! {
            biased;
            () = shared.tasks.draining() => return,
            () = shared.ledger.disk_filled_for_webhooks() => {}
        }
        if let Err(error) = prune(&shared, shared.clock.now()).await {
            tracing::debug!(%error, "webhook data could not be pruned");
        }
        if !shared.pause(INTERVAL).await {
            return;
        }
    }
}

/// One round.
pub(super) async fn step<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    round: u64,
) -> Result<(), LedgerError> {
    let now = shared.clock.now();
    shared.receivers.sweep(now);
    shared.traffic().sweep(now);
    metrics::set(shared, now);
    take_back(shared).await?;
    if round.is_multiple_of(NODES) {
        ownership::look(shared).await?;
    }
    if round.is_multiple_of(COMPARE) {
        compare(shared).await?;
    }
    if round.is_multiple_of(COUNT)
        && let Err(error) = metrics::count(shared, now).await
    {
        // What is only shown keeps nothing from being tidied.
        tracing::warn!(%error, "deliveries could not be counted; trying again");
    }
    if round.is_multiple_of(OLD) {
        if round >= CHANCE {
            expire_deliveries(shared, now).await?;
        }
        prune(shared, now).await?;
    }
    Ok(())
}

/// Reclaims deliveries of nodes that are gone.
async fn take_back<S: DeliveryTransport>(shared: &WebhookState<S>) -> Result<(), LedgerError> {
    loop {
        let count = shared.ledger.reclaim_deliveries(BATCH, shared.clock.now()).await?;
        if count > 0 {
            tracing::info!(count, "reclaimed deliveries of nodes that are gone");
        }
        if count < BATCH || shared.tasks.is_draining() {
            return Ok(());
        }
    }
}

/// Hands back deliveries that the ledger assigns to this node but that are not in flight here: the
/// answer to a claim was lost, or a task panicked.
pub(super) async fn compare<S: DeliveryTransport>(
    shared: &WebhookState<S>,
) -> Result<(), LedgerError> {
    // While no claim is on its way, what was handed out is held.
    let claiming = shared.claiming.lock().await;
    let strays = shared.in_flight.missing(shared.ledger.sent_here().await?);
    drop(claiming);
    if strays.is_empty() {
        return Ok(());
    }
    tracing::warn!(count = strays.len(), "returned deliveries that this node no longer holds");
    let now = shared.clock.now();
    let back = strays.into_iter().map(|lease| DeliverySettlement::Returned { lease, due_at: now });
    shared.ledger.settle_deliveries(back.collect()).await.map(drop)
}

/// Expires deliveries that wait beyond their deadline for a receiver that is not served.
async fn expire_deliveries<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    for lane in shared.ledger.due_deliveries(now - LONG_DUE) {
        loop {
            let given_up = shared.ledger.expire_deliveries(lane, BATCH, now).await?;
            for message in &given_up {
                settler::given_up(shared, message, lane.receiver, "exhausted");
            }
            if given_up.len() < BATCH {
                break;
            }
            if shared.tasks.is_draining() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn prune<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let (held, over) = (now - HELD, now - shared.settings.over);
    while !shared.tasks.is_draining() {
        let pruned = shared.ledger.prune_deliveries(BATCH, held, over, now).await?;
        if [pruned.deliveries, pruned.dropped, pruned.former].iter().all(|it| *it < BATCH as u64) {
            break;
        }
    }
    Ok(())
}
