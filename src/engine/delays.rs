//! Delayed operations with a serial key.
//!
//! Owns releasing them when their time comes; until then other operations use the key. Its invariant:
//! it writes nothing while no delay is over.

use std::sync::Arc;
use std::time::Duration;

use super::EngineContext;
use super::loops::EngineLoop;
use cloakroom_ledger::LedgerError;

/// A delay is over for at most about this long before its operation may go.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many go together.
const BATCH: usize = 256;

/// Looks every second until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    loop {
        match step(&engine).await {
            Ok(()) => engine.loop_health.succeeded(EngineLoop::Delays, engine.clock.now()),
            Err(error) => {
                tracing::warn!(%error, "delayed operations could not be released; trying again soon");
            }
        }
        if !engine.pause(INTERVAL).await {
            return;
        }
    }
}

/// Lets everything go whose delay is over.
async fn step(engine: &EngineContext) -> Result<(), LedgerError> {
    while !engine.tasks.is_draining() {
        if engine.ledger.release_delayed(BATCH, engine.clock.now()).await? < BATCH {
            break;
        }
    }
    Ok(())
}
