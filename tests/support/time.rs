//! Real time for tests: patience, and conditions to wait for.
//!
//! Owns the only waiting that the tests do. Nothing else here sleeps: a test waits for
//! a condition, and a condition that never comes is a failure after [`PATIENCE`].
#![expect(clippy::disallowed_methods, reason = "tests are patient in real time")]

use std::future::Future;
use std::pin::pin;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// How long anything may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// How often the time is noted in which this process really ran.
const TICK: Duration = Duration::from_millis(20);

/// The time in which this process really ran. Patience is measured by it, so that a
/// machine that stood still for a while makes nothing count as hung.
fn awake() -> Duration {
    static TICKING: Once = Once::new();
    static MICROS: AtomicU64 = AtomicU64::new(0);
    TICKING.call_once(|| {
        std::thread::spawn(|| {
            loop {
                let begun = Instant::now();
                std::thread::sleep(TICK);
                let passed = begun.elapsed();
                if passed > TICK * 100 {
                    eprintln!("the tests stood still for {passed:?}");
                }
                let counts = passed.min(TICK * 5).as_micros() as u64;
                MICROS.fetch_add(counts, Ordering::Relaxed);
            }
        });
    });
    Duration::from_micros(MICROS.load(Ordering::Relaxed))
}

/// The output of `work`, or `None` if it hung.
pub async fn bounded<T>(work: impl Future<Output = T>) -> Option<T> {
    bounded_by(PATIENCE, work).await
}

/// The output of `work`, or `None` if it took longer than that.
pub async fn bounded_by<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (begun, mut work) = (awake(), pin!(work));
    loop {
        let left = limit.saturating_sub(awake().saturating_sub(begun));
        if left.is_zero() {
            return None;
        }
        if let Ok(output) = tokio::time::timeout(left.max(TICK), &mut work).await {
            return Some(output);
        }
    }
}

/// The output of `work`; fails the test if it hung.
#[track_caller]
pub fn within<T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        match bounded(work).await {
            Some(output) => output,
            None => panic!("{place}: {what}: nothing after {PATIENCE:?}"),
        }
    }
}

/// Probes until there is an answer; fails the test if there is none in [`PATIENCE`].
#[track_caller]
pub fn until<T, P, F>(what: &str, probe: P) -> impl Future<Output = T>
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    until_within(PATIENCE, what, probe)
}

/// Probes until there is an answer, now and then; `None` if there is none within `limit`.
pub async fn looked_for<T, P, F>(limit: Duration, mut probe: P) -> Option<T>
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let begun = awake();
    while awake().saturating_sub(begun) < limit {
        if let Some(answer) = probe().await {
            return Some(answer);
        }
        pause(TICK * 5).await;
    }
    None
}

/// Probes until there is an answer; fails the test if there is none within `limit`.
#[track_caller]
pub fn until_within<T, P, F>(limit: Duration, what: &str, mut probe: P) -> impl Future<Output = T>
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let place = std::panic::Location::caller();
    async move {
        let begun = awake();
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            assert!(
                awake().saturating_sub(begun) < limit,
                "{place}: {what}: still not so after {limit:?}"
            );
            pause(LOOK_AGAIN).await;
        }
    }
}

/// The output of `work`, which may take longer than usual; fails the test if it hung.
#[track_caller]
pub fn until_done<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let done = bounded_by(limit, work).await;
        done.unwrap_or_else(|| panic!("{place}: {what}: nothing after {limit:?}"))
    }
}

/// Tells how long something has taken, as patience counts it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    pub fn start() -> Self {
        Self(awake())
    }

    pub fn elapsed(&self) -> Duration {
        awake().saturating_sub(self.0)
    }
}

/// This moment, to measure from or to.
pub fn instant() -> Instant {
    Instant::now()
}

/// A number that the environment of the tests sets, for tests that can also run longer.
pub fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value:?}")))
}

/// Lets real time pass. For fakes that take their time and for random moments, never
/// for waiting until something has happened.
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Runs a task beside the test; it ends with the test's runtime.
pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task)
}
