//! The pruner: deletes expired data in small portions.

use std::sync::Arc;
use std::time::Duration;

use super::EngineContext;
use super::loops::EngineLoop;
use cloakroom_domain::pruning::{Portion, SHORTEST_REST, rest_after};
use cloakroom_ledger::{LedgerError, Pruned};
use cloakroom_runtime::LogThrottle;

/// Frees every few seconds, more often where there is much to free, and when a write finds the
/// disk full, until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    let mut portion = Portion::default();
    let failures = LogThrottle::default();
    loop {
        let mut freed = 0;
        match step(&engine, &mut portion, &mut freed).await {
            Ok(()) => engine.loop_health.succeeded(EngineLoop::Pruner, engine.clock.now()),
            Err(error) => {
                if let Some(failed) = failures.due(&engine.clock) {
                    tracing::warn!(%error, failed, "pruning failed; trying again soon");
                }
            }
        }
        if !rest(&engine, rest_after(freed)).await {
            return;
        }
    }
}

/// Waits for the next round; false if the tasks drain.
async fn rest(engine: &EngineContext, duration: Duration) -> bool {
    engine.pause(SHORTEST_REST).await
        && tokio::select! {
            biased;
            goes_on = engine.pause(duration.saturating_sub(SHORTEST_REST)) => goes_on,
            () = engine.ledger.disk_filled() => true,
        }
}

/// How often a portion that failed is halved and tried again at once.
const HALVES: u32 = 10;

/// Frees until nothing is left to be freed now, a portion at a time; adds up what it freed.
async fn step(
    engine: &EngineContext,
    portion: &mut Portion,
    freed: &mut u64,
) -> Result<(), LedgerError> {
    let mut failures = 0;
    if engine.is_unsure_of_time() {
        return Ok(());
    }
    while !engine.tasks.is_draining() {
        let began = engine.clock.elapsed();
        match engine.ledger.prune(*portion, engine.clock.now()).await {
            Ok(pruned) if pruned == Pruned::default() => break,
            Ok(pruned) => {
                *portion = portion.after(engine.clock.elapsed().saturating_sub(began));
                failures = 0;
                let Pruned { results, operations, pieces, kept } = pruned;
                *freed += results + operations;
                tracing::debug!(results, operations, pieces, kept, "pruned");
            }
            Err(error) if failures < HALVES => {
                *portion = portion.after_error();
                failures += 1;
                tracing::debug!(%error, rows = portion.rows, "pruning fewer rows at once");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
