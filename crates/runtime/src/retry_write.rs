//! Writes that are repeated until they succeed.
//!
//! Owns the pauses between attempts, and that no pause outlasts the moment in which tasks are
//! cut. The caller decides which errors end the attempts: a store is away for a while, or it
//! will never take this write.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use crate::clock::Clock;
use crate::lifecycle::Tasks;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Repeats `write` until it succeeds, or until `gives_up` says so of its error. `gives_up` is
/// also told whether tasks are being cut.
pub async fn retry_write<T, E, F>(
    (clock, tasks): (&Clock, &Tasks),
    write: impl Fn() -> F,
    mut gives_up: impl FnMut(&E, bool) -> bool,
) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match write().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let is_cutting = tasks.is_cutting();
        if gives_up(&error, is_cutting) {
            return Err(error);
        }
        tracing::debug!(%error, "a write failed; trying again");
        wait(clock, tasks, pause, is_cutting).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits, but not past the moment in which tasks are cut.
async fn wait(clock: &Clock, tasks: &Tasks, pause: Duration, is_cutting: bool) {
    if is_cutting {
        return clock.sleep(pause).await;
    }
    tokio::select! {
        () = clock.sleep(pause) => {}
        () = tasks.cutting() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use cloakroom_domain::Timestamp;
    use futures_util::FutureExt;

    /// How often a write was tried that fails so often, and whether it succeeded in the end.
    fn tried(failures: u32, tasks: &Tasks, gives_up: impl Fn(u32, bool) -> bool) -> (u32, bool) {
        let (clock, tries) = (Clock::manual(Timestamp::EPOCH), Cell::new(0));
        let write = || {
            tries.set(tries.get() + 1);
            std::future::ready(if tries.get() > failures { Ok(()) } else { Err("away") })
        };
        let ends = |_: &&str, is_cutting: bool| gives_up(tries.get(), is_cutting);
        let mut done = std::pin::pin!(retry_write((&clock, tasks), write, ends));
        loop {
            match done.as_mut().now_or_never() {
                Some(done) => return (tries.get(), done.is_ok()),
                None => clock.advance(LONGEST_PAUSE),
            }
        }
    }

    #[test]
    fn a_write_is_repeated_until_it_succeeds_or_its_caller_gives_up() {
        let tasks = Tasks::new();
        assert_eq!(tried(40, &tasks, |_, _| false), (41, true));
        assert_eq!(tried(40, &tasks, |tries, _| tries == 5), (5, false));
        assert_eq!(tried(40, &tasks, |_, is_cutting| is_cutting), (41, true));
        tasks.cut();
        assert_eq!(tried(40, &tasks, |_, is_cutting| is_cutting), (1, false));
        assert_eq!(tried(3, &tasks, |_, _| false), (4, true));
    }
}
