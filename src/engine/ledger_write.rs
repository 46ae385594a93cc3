//! Ledger writes that the engine repeats until they succeed.
//!
//! Owns which errors end the attempts. A write that the ledger can never take is given up after
//! some attempts, so that it holds no permit for ever.

use super::EngineContext;
use cloakroom_ledger::LedgerError;
use cloakroom_runtime::retry_write;

/// How often the engine tries a write that the ledger calls impossible.
const IMPOSSIBLE_TRIES: u32 = 5;

/// Repeats `write` until the ledger takes it. Three errors end the attempts: the disk failed, and
/// the process has to end; the ledger is away while tasks are being cut, and the next start takes
/// the operation over; the ledger says again and again that the write is impossible.
pub(super) async fn write<T, F>(
    engine: &EngineContext,
    write: impl Fn() -> F,
) -> Result<T, LedgerError>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    retry_write((&engine.clock, &engine.tasks), write, ends_the_attempts()).await
}

fn ends_the_attempts() -> impl FnMut(&LedgerError, bool) -> bool {
    let mut impossible = 0;
    move |error, is_cutting| match error {
        LedgerError::NotDurable(_) => true,
        LedgerError::Unavailable(_) | LedgerError::Contended(_) => is_cutting,
        LedgerError::Damaged(_) | LedgerError::Sealed(_) | LedgerError::Later(_) => {
            impossible += 1;
            is_cutting || impossible >= IMPOSSIBLE_TRIES
        }
        LedgerError::Full => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which attempt is the last one where each fails so; none up to the 40th.
    fn last_of(error: &LedgerError, is_cutting: bool) -> Option<usize> {
        let mut ends = ends_the_attempts();
        (1..=40).find(|_| ends(error, is_cutting))
    }

    #[test]
    fn a_ledger_that_is_away_is_waited_for_and_impossible_writes_are_given_up() {
        let away = LedgerError::Unavailable("away".into());
        assert_eq!((last_of(&away, false), last_of(&away, true)), (None, Some(1)));
        let damaged = LedgerError::Damaged("no such state".into());
        assert_eq!((last_of(&damaged, false), last_of(&damaged, true)), (Some(5), Some(1)));
        assert_eq!(last_of(&LedgerError::NotDurable("disk".into()), false), Some(1));
    }
}
