//! Writes that have to reach the ledger.
//!
//! Owns the patience with a ledger that does not take a write: again and again, until it
//! does or the process is about to end. What the ledger cannot write at all is given up
//! after some tries, so that nobody holds a permit for ever.

use std::time::Duration;

use futures_util::FutureExt;

use super::EngineContext;
use cloakroom_ledger::LedgerError;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often something is tried that the ledger says makes no sense.
const SENSELESS_TRIES: u32 = 5;

/// Does `write` until it succeeds. It is given up where the disk failed, because then the
/// process has to end; where the ledger has stopped while everybody has to let go: the next
/// start finds the operation owned by nobody alive; and where the ledger says again and
/// again that it makes no sense.
pub(super) async fn insist<T, F>(
    engine: &EngineContext,
    write: impl Fn() -> F,
) -> Result<T, LedgerError>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    patiently(&engine.clock, &engine.tasks, write).await
}

async fn patiently<T, F>(
    clock: &Clock,
    tasks: &Tasks,
    write: impl Fn() -> F,
) -> Result<T, LedgerError>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let (mut pause, mut senseless) = (FIRST_PAUSE, 0);
    loop {
        let error = match write().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let cutting = tasks.cutting().now_or_never().is_some();
        senseless += u32::from(matches!(
            error,
            LedgerError::Damaged(_) | LedgerError::Sealed(_) | LedgerError::Later(_)
        ));
        match error {
            LedgerError::NotDurable(_) => return Err(error),
            LedgerError::Unavailable(_) | LedgerError::Contended(_) if cutting => {
                return Err(error);
            }
            LedgerError::Damaged(_) | LedgerError::Sealed(_) | LedgerError::Later(_)
                if cutting || senseless >= SENSELESS_TRIES =>
            {
                return Err(error);
            }
            _ => wait(clock, tasks, pause, cutting).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits, but not through the moment in which everybody has to let go.
async fn wait(clock: &Clock, tasks: &Tasks, pause: Duration, cutting: bool) {
    if cutting {
        return clock.sleep(pause).await;
    }
    tokio::select! {
        () = clock.sleep(pause) => {}
        () = tasks.cutting() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use cloakroom_domain::Timestamp;

    /// How often it was tried when it came to an end, and whether that was a success.
    fn tried(fails: u32, why: &LedgerError) -> (u32, bool) {
        let (clock, tasks, tries) =
            (Clock::manual(Timestamp::EPOCH), Tasks::new(), AtomicU32::new(0));
        let write = || {
            let fails = tries.fetch_add(1, Ordering::SeqCst) < fails;
            std::future::ready(if fails { Err(why.clone()) } else { Ok(()) })
        };
        let mut done = std::pin::pin!(patiently(&clock, &tasks, write));
        loop {
            match done.as_mut().now_or_never() {
                Some(done) => return (tries.load(Ordering::SeqCst), done.is_ok()),
                None => clock.advance(LONGEST_PAUSE),
            }
        }
    }

    #[test]
    fn a_ledger_that_is_away_is_waited_for_and_what_makes_no_sense_is_given_up() {
        let away = LedgerError::Unavailable("away".into());
        assert_eq!(tried(40, &away), (41, true));
        let senseless = LedgerError::Damaged("no such state".into());
        assert_eq!(tried(4, &senseless), (5, true));
        assert_eq!(tried(40, &senseless), (SENSELESS_TRIES, false));
    }
}
