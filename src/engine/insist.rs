//! Writes that have to reach the ledger.
//!
//! Owns the patience with a ledger that does not take a write: again and again, until it
//! does or the process is about to end.

use std::time::Duration;

use futures_util::FutureExt;

use super::Shared;
use crate::ledger::LedgerError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Does `write` until it succeeds. It is given up where the disk failed, because then the
/// process has to end, and where the ledger has stopped while everybody has to let go:
/// the next start finds the operation owned by nobody alive.
pub(super) async fn insist<T, F>(shared: &Shared, write: impl Fn() -> F) -> Result<T, LedgerError>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match write().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let cutting = shared.tasks.cutting().now_or_never().is_some();
        match error {
            LedgerError::NotDurable(_) => return Err(error),
            LedgerError::Unavailable(_) | LedgerError::Contended(_) if cutting => {
                return Err(error);
            }
            _ => wait(shared, pause, cutting).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits, but not through the moment in which everybody has to let go.
async fn wait(shared: &Shared, pause: Duration, cutting: bool) {
    if cutting {
        return shared.clock.sleep(pause).await;
    }
    tokio::select! {
        () = shared.clock.sleep(pause) => {}
        () = shared.tasks.cutting() => {}
    }
}
