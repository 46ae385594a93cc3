//! The only reader of time, and the only sleep and timeout.
//!
//! Owns what "now" means. In production it is the system's clock; in tests it is a clock
//! that stands still until the test moves it, and every sleeper wakes when its instant
//! has come. It must not know what anybody waits for.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::domain::Timestamp;

/// Tells the time and waits for it. Clones share one clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Mutex<Manual>>),
}

#[derive(Debug, Default)]
struct Manual {
    now: Timestamp,
    // Sleepers by the instant they wait for; the number keeps equal instants apart.
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    next_number: u64,
}

/// The time was up before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time ran out")]
pub struct Elapsed;

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        let manual = Manual { now: start, ..Manual::default() };
        Self(Source::Manual(Arc::new(Mutex::new(manual))))
    }

    /// The present instant.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::EPOCH + since
            }
            Source::Manual(manual) => lock(manual).now,
        }
    }

    /// Moves a manual clock forward and wakes who waited for an instant up to then.
    /// The system's clock is not moved.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(manual) = &self.0 else { return };
        let mut manual = lock(manual);
        manual.now = manual.now + by;
        let now = manual.now;
        let later = manual.sleepers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut manual.sleepers, later);
        drop(manual);
        for (_, sleeper) in due {
            // A sleeper that was dropped meanwhile no longer cares.
            let _ = sleeper.send(());
        }
    }

    /// Waits that long.
    pub async fn sleep(&self, duration: Duration) {
        self.sleeper(duration).await;
    }

    /// Waits until that instant; returns at once if it has passed.
    pub async fn sleep_until(&self, instant: Timestamp) {
        self.sleep(instant.since(self.now())).await;
    }

    /// The result of `work`, unless that takes longer than `limit`.
    pub async fn timeout<F: Future>(&self, limit: Duration, work: F) -> Result<F::Output, Elapsed> {
        tokio::select! {
            biased;
            output = work => Ok(output),
            () = self.sleep(limit) => Err(Elapsed),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleeper(&self, duration: Duration) -> Sleeper {
        match &self.0 {
            Source::System => Sleeper::System(Box::pin(tokio::time::sleep(duration))),
            Source::Manual(manual) => {
                let (wake, woken) = oneshot::channel();
                let mut manual = lock(manual);
                if duration.is_zero() {
                    let _ = wake.send(());
                } else {
                    let number = manual.next_number;
                    manual.next_number += 1;
                    let due = manual.now + duration;
                    manual.sleepers.insert((due, number), wake);
                }
                Sleeper::Manual(woken)
            }
        }
    }
}

fn lock(manual: &Mutex<Manual>) -> std::sync::MutexGuard<'_, Manual> {
    // The lock guards plain values that are whole between statements.
    manual.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Sleeper {
    System(Pin<Box<tokio::time::Sleep>>),
    Manual(oneshot::Receiver<()>),
}

impl Future for Sleeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut *self {
            Self::System(sleep) => sleep.as_mut().poll(context),
            // A clock that is gone wakes nobody early: it counts as never.
            Self::Manual(woken) => match Pin::new(woken).poll(context) {
                Poll::Ready(Ok(())) => Poll::Ready(()),
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// Lets hyper's servers and clients wait by this clock.
impl hyper::rt::Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep(self.sleeper(duration)))
    }

    #[expect(clippy::disallowed_methods, reason = "hyper names deadlines by the monotonic clock")]
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        hyper::rt::Timer::sleep(self, deadline.saturating_duration_since(Instant::now()))
    }
}

struct HyperSleep(Sleeper);

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl hyper::rt::Sleep for HyperSleep {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_their_instant_has_come() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let sleeper = clock.sleeper(Duration::from_secs(5));
        clock.advance(Duration::from_secs(4));
        let limit = clock.timeout(Duration::from_secs(1), sleeper);
        clock.advance(Duration::from_secs(1));
        assert_eq!(limit.await, Ok(()));
    }

    #[tokio::test]
    async fn work_that_is_done_wins_over_a_time_that_is_up() {
        let clock = Clock::manual(Timestamp::EPOCH);
        assert_eq!(clock.timeout(Duration::ZERO, async { 7 }).await, Ok(7));
        let never = std::future::pending::<()>();
        assert_eq!(clock.timeout(Duration::ZERO, never).await, Err(Elapsed));
    }
}
