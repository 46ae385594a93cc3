//! What nobody will begin before its deadline.
//!
//! Owns the end of operations in lanes that are not claimed: in a paused queue, or for an
//! upstream that is no longer configured. All others find their deadline when they begin.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Shared;
use super::beats::Loop;
use super::ending::{self, Ended};
use crate::domain::operation::{Lane, Outcome};
use crate::ledger::LedgerError;

const INTERVAL: Duration = Duration::from_mins(1);
/// How many are ended together.
const BATCH: usize = 256;

/// Looks every minute until the tasks drain.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        match step(&shared).await {
            Ok(()) => shared.beats.beat(Loop::Expiry, shared.clock.now()),
            Err(error) => tracing::warn!(%error, "nothing could be expired; trying again soon"),
        }
        if !shared.pause(INTERVAL).await {
            return;
        }
    }
}

/// Ends all that is past its deadline in lanes that are not claimed.
async fn step(shared: &Shared) -> Result<(), LedgerError> {
    for depth in shared.ledger.lanes() {
        if depth.depth > 0 && !shared.is_claimed(&depth.lane) {
            expire(shared, &depth.lane).await?;
        }
    }
    Ok(())
}

async fn expire(shared: &Shared, lane: &Lane) -> Result<(), LedgerError> {
    // Where others share the ledger, one of them may know what this node does not.
    let configured = shared.permits.knows(&lane.upstream) || shared.ledger.is_shared();
    let outcome = if configured { Outcome::Expired } else { Outcome::Unroutable };
    while !shared.tasks.is_draining() {
        let now = shared.clock.now();
        let overdue = shared.ledger.claim_expired(lane.clone(), BATCH, now).await?;
        if overdue.is_empty() {
            break;
        }
        let ends = overdue.iter().map(|it| ending::commit(shared, it, Ended::of(outcome.clone())));
        join_all(ends).await;
    }
    Ok(())
}
