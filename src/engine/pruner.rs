//! Frees what has expired, little by little.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::beats::Loop;
use crate::ledger::{LedgerError, Pruned};

const INTERVAL: Duration = Duration::from_secs(30);
/// How many operations are freed in one commit, so that nobody waits long behind it.
const BATCH: usize = 500;

/// Frees every half minute until the tasks drain.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        match step(&shared).await {
            Ok(()) => shared.beats.beat(Loop::Pruner, shared.clock.now()),
            Err(error) => tracing::warn!(%error, "nothing could be freed; trying again soon"),
        }
        if !shared.pause(INTERVAL).await {
            return;
        }
    }
}

/// Frees until nothing is left to be freed now.
async fn step(shared: &Shared) -> Result<(), LedgerError> {
    while !shared.tasks.is_draining() {
        let pruned = shared.ledger.prune(BATCH, shared.clock.now()).await?;
        if pruned == Pruned::default() {
            break;
        }
        tracing::debug!(results = pruned.results, operations = pruned.operations, "freed");
    }
    Ok(())
}
