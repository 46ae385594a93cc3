//! Writes that have to reach the ledger.
//!
//! Owns the patience with a ledger that does not take a write: again and again, until it
//! does or the process is about to end.

use std::time::Duration;

use futures_util::FutureExt;

use super::{Sends, Shared};
use cloakroom_ledger::LedgerError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Does `write` until it succeeds. It is given up where trying again does not help, and
/// where the ledger is away while everybody has to let go: what is left is handed out anew
/// by whoever finds it owned by nobody alive.
pub(super) async fn retry_write<S: Sends, T, F>(
    shared: &Shared<S>,
    write: impl Fn() -> F,
) -> Result<T, LedgerError>
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
            LedgerError::NotDurable(_)
            | LedgerError::Damaged(_)
            | LedgerError::Sealed(_)
            | LedgerError::Later(_) => {
                return Err(error);
            }
            _ if cutting => return Err(error),
            _ => tracing::debug!(%error, "not settled yet; trying again"),
        }
        tokio::select! {
            () = shared.clock.sleep(pause) => {}
            () = shared.tasks.cutting() => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
