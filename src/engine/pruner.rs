//! Frees what has expired, little by little.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::beats::Loop;
use crate::domain::pruning::Portion;
use crate::ledger::{LedgerError, Pruned};

const INTERVAL: Duration = Duration::from_secs(30);
/// Frees every half minute until the tasks drain.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut portion = Portion::default();
    loop {
        match step(&shared, &mut portion).await {
            Ok(()) => shared.beats.beat(Loop::Pruner, shared.clock.now()),
            Err(error) => tracing::warn!(%error, "nothing could be freed; trying again soon"),
        }
        if !shared.pause(INTERVAL).await {
            return;
        }
    }
}

/// How often a portion that failed is halved and tried again at once.
const HALVES: u32 = 10;

/// Frees until nothing is left to be freed now, a portion at a time.
async fn step(shared: &Shared, portion: &mut Portion) -> Result<(), LedgerError> {
    let mut failures = 0;
    if shared.is_unsure_of_time() {
        return Ok(());
    }
    while !shared.tasks.is_draining() {
        let began = shared.clock.elapsed();
        match shared.ledger.prune(*portion, shared.clock.now()).await {
            Ok(pruned) if pruned == Pruned::default() => break,
            Ok(pruned) => {
                *portion = portion.after(shared.clock.elapsed().saturating_sub(began));
                failures = 0;
                let Pruned { results, operations, pieces, kept } = pruned;
                tracing::debug!(results, operations, pieces, kept, "freed");
            }
            Err(error) if failures < HALVES => {
                *portion = portion.after_error();
                failures += 1;
                tracing::debug!(%error, rows = portion.rows, "freeing less at once");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
