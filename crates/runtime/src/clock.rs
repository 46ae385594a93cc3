//! The clock: the only reader of time, and the only sleep and timeout.
//!
//! Owns what "now" means. In production it is the system's clock at the start plus monotonic time
//! since, until [`Clock::steer`] brings a better one: the database's, which all nodes share. Its
//! invariant: except for the first time that it is steered, it never goes back. In tests it stands
//! still until the test moves it, and then wakes every sleeper whose instant has come. It must not
//! know what its callers wait for.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use cloakroom_domain::Timestamp;

/// Tells the time and waits for it. Clones share one clock.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    System(Arc<SteeredClock>),
    Manual(Arc<Mutex<ManualClock>>),
}

/// Monotonic time with the course that turns it into a timestamp.
#[derive(Debug)]
struct SteeredClock {
    began: Instant,
    course: RwLock<Course>,
}

/// A better clock that is this far from where this one stands may be wrong: it is believed once it
/// has said so twice.
const STEP: Duration = Duration::from_secs(5);

/// A line through time: where it starts, and how much it is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Course {
    /// Monotonic time at which this course began.
    from: Duration,
    /// What the clock showed then.
    shown: Timestamp,
    /// How much that was ahead; caught up with by going at half the speed.
    ahead: Duration,
    /// Whether it was told by a better clock.
    told: bool,
    /// How far a better clock was ahead when it was not believed, in microseconds.
    doubted: Option<i64>,
    /// Monotonic time at the last step.
    stepped_at: Option<Duration>,
}

/// The result of steering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SteerResult {
    Followed,
    Doubted,
    Stepped,
}

impl Course {
    const fn starting(now: Timestamp) -> Self {
        Self {
            from: Duration::ZERO,
            shown: now,
            ahead: Duration::ZERO,
            told: false,
            doubted: None,
            stepped_at: None,
        }
    }

    fn at(self, elapsed: Duration) -> Timestamp {
        let passed = elapsed.saturating_sub(self.from);
        self.shown + passed.saturating_sub((passed / 2).min(self.ahead))
    }

    /// The course from that moment on, when a better clock shows `now`. A step of seconds is made
    /// once that clock has shown it twice; the first time of all, at once.
    fn steered(self, elapsed: Duration, now: Timestamp) -> (Self, SteerResult) {
        let off = now.as_micros() - self.at(elapsed).as_micros();
        let is_step = |off: i64| off.unsigned_abs() > STEP.as_micros() as u64;
        let again = self.doubted.is_some_and(|before| !is_step(off - before));
        if !is_step(off) {
            return (self.following(elapsed, now), SteerResult::Followed);
        }
        if self.told && !again {
            return (Self { doubted: Some(off), ..self }, SteerResult::Doubted);
        }
        let stepped = Self { stepped_at: Some(elapsed), ..self.following(elapsed, now) };
        (stepped, SteerResult::Stepped)
    }

    fn following(self, elapsed: Duration, now: Timestamp) -> Self {
        // Nothing came of what it showed before, so there is nothing to go back behind.
        let shown = if self.told { self.at(elapsed) } else { now };
        Self {
            from: elapsed,
            shown: shown.max(now),
            ahead: shown.since(now),
            told: true,
            doubted: None,
            ..self
        }
    }
}

#[derive(Debug, Default)]
struct ManualClock {
    now: Timestamp,
    // Sleepers by the instant they wait for; the number keeps equal instants apart.
    sleepers: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    next_number: u64,
}

/// The time was up before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("time ran out")]
pub struct TimeLimitExceeded;

impl Clock {
    /// The clock of this machine, as it stands now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn system() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::showing(Timestamp::EPOCH + since)
    }

    /// A clock that goes like this machine's, but shows that time now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads monotonic time")]
    pub fn showing(now: Timestamp) -> Self {
        let course = Course::starting(now);
        let steered = SteeredClock { began: Instant::now(), course: RwLock::new(course) };
        Self(ClockSource::System(Arc::new(steered)))
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        let manual = ManualClock { now: start, ..ManualClock::default() };
        Self(ClockSource::Manual(Arc::new(Mutex::new(manual))))
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            // It is replaced as a whole.
            ClockSource::System(steered) => {
                let course = *steered.course.read().unwrap_or_else(PoisonError::into_inner);
                course.at(self.elapsed())
            }
            ClockSource::Manual(manual) => lock(manual).now,
        }
    }

    /// Monotonic time since the clock was made, which steering does not change: for durations
    /// on this machine.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads monotonic time")]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            ClockSource::System(steered) => Instant::now().saturating_duration_since(steered.began),
            ClockSource::Manual(manual) => lock(manual).now.since(Timestamp::EPOCH),
        }
    }

    /// Takes over the time of a better clock: at once the first time; later, where this one
    /// is ahead, it goes at half the speed until the other has caught up. A time that is seconds
    /// away from what this clock shows is believed once it was told twice. A manual clock is
    /// not moved.
    pub fn steer(&self, now: Timestamp) {
        let ClockSource::System(steered) = &self.0 else { return };
        let elapsed = self.elapsed();
        let mut course = steered.course.write().unwrap_or_else(PoisonError::into_inner);
        let off = now.as_micros() - course.at(elapsed).as_micros();
        let (next, steering) = course.steered(elapsed, now);
        *course = next;
        drop(course);
        let seconds = off / 1_000_000;
        match steering {
            SteerResult::Followed => {}
            SteerResult::Doubted => tracing::warn!(
                seconds,
                "the database's clock has jumped; the gateway follows if the next reading confirms it"
            ),
            SteerResult::Stepped => tracing::warn!(
                seconds,
                "the clock follows a jump of the database's clock; check the clocks of both machines"
            ),
        }
    }

    /// Whether this clock has followed a step of a better one within that time.
    pub fn has_stepped_within(&self, time: Duration) -> bool {
        let ClockSource::System(steered) = &self.0 else { return false };
        let stepped_at = steered.course.read().unwrap_or_else(PoisonError::into_inner).stepped_at;
        stepped_at.is_some_and(|at| self.elapsed().saturating_sub(at) < time)
    }

    /// Moves a manual clock forward and wakes the sleepers whose instant has come.
    /// The system's clock is not moved.
    pub fn advance(&self, by: Duration) {
        let ClockSource::Manual(manual) = &self.0 else { return };
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
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        work: F,
    ) -> Result<F::Output, TimeLimitExceeded> {
        tokio::select! {
            biased;
            output = work => Ok(output),
            () = self.sleep(limit) => Err(TimeLimitExceeded),
        }
    }

    /// A sleep that starts at once, for callers that need its type.
    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    pub fn sleeper(&self, duration: Duration) -> Sleeper {
        match &self.0 {
            ClockSource::System(_) => {
                Sleeper(SleepKind::System(Box::pin(tokio::time::sleep(duration))))
            }
            ClockSource::Manual(manual) => {
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
                Sleeper(SleepKind::Manual(woken))
            }
        }
    }
}

fn lock(manual: &Mutex<ManualClock>) -> std::sync::MutexGuard<'_, ManualClock> {
    // The lock guards plain values that are whole between statements.
    manual.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sleep of a [`Clock`]: completes when its instant has come.
#[derive(Debug)]
pub struct Sleeper(SleepKind);

#[derive(Debug)]
enum SleepKind {
    System(Pin<Box<tokio::time::Sleep>>),
    Manual(oneshot::Receiver<()>),
}

impl Future for Sleeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            SleepKind::System(sleep) => sleep.as_mut().poll(context),
            // A dropped clock wakes no sleeper: its instant never comes.
            SleepKind::Manual(woken) => match Pin::new(woken).poll(context) {
                Poll::Ready(Ok(())) => Poll::Ready(()),
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
            },
        }
    }
}

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

    #[test]
    fn a_clock_that_is_off_at_the_start_shows_the_better_time_at_once() {
        let told = Timestamp::EPOCH + Duration::from_hours(1);
        for off in [told - Duration::from_mins(2), told + Duration::from_mins(2)] {
            let clock = Clock::showing(off);
            clock.steer(told);
            assert!(clock.now() >= told && clock.now() < told + Duration::from_mins(1));
        }
    }

    #[test]
    fn one_wrong_time_moves_no_clock_and_a_time_that_is_told_twice_does() {
        let (start, second) = (Timestamp::EPOCH + Duration::from_hours(1), Duration::from_secs(1));
        let mut course = Course { told: true, ..Course::starting(start) };
        let far = Duration::from_hours(240);
        for (passed, told, steering, shown) in [
            (1, start + far, SteerResult::Doubted, start + second),
            (2, start + second * 2, SteerResult::Followed, start + second * 2),
            (3, start + far, SteerResult::Doubted, start + second * 3),
            // Another wrong one is no confirmation.
            (4, start + far * 2, SteerResult::Doubted, start + second * 4),
            (5, start + far, SteerResult::Doubted, start + second * 5),
            (6, start + far + second, SteerResult::Stepped, start + far + second),
        ] {
            let elapsed = second * passed;
            let (next, found) = course.steered(elapsed, told);
            course = next;
            assert_eq!((found, course.at(elapsed)), (steering, shown), "{passed}");
            assert_eq!(course.stepped_at.is_some(), steering == SteerResult::Stepped);
        }
    }

    #[test]
    fn a_clock_that_was_far_off_at_the_start_has_stepped_and_one_that_was_near_has_not() {
        let lease = Duration::from_secs(15);
        let told = Timestamp::EPOCH + Duration::from_hours(1);
        for (off, stepped) in [(Duration::from_hours(1), true), (Duration::from_secs(1), false)] {
            let clock = Clock::showing(told - off);
            clock.steer(told);
            assert_eq!(clock.has_stepped_within(lease), stepped);
            assert!(!clock.has_stepped_within(Duration::ZERO));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_clock_never_goes_back_and_comes_to_show_what_it_was_told(
            steps in proptest::collection::vec((0u64..10_000, -20_000i64..20_000), 1..20)
        ) {
            let start = Timestamp::from_micros(1_000_000_000);
            let mut course = Course { told: true, ..Course::starting(start) };
            let (mut elapsed, mut last) = (Duration::ZERO, start);
            for (passed, off) in steps {
                elapsed += Duration::from_micros(passed);
                proptest::prop_assert!(course.at(elapsed) >= last);
                last = course.at(elapsed);
                let told = Timestamp::from_micros(last.as_micros() + off);
                course = course.steered(elapsed, told).0;
                proptest::prop_assert!(course.at(elapsed) >= last);
                let long = Duration::from_secs(1);
                proptest::prop_assert_eq!(course.at(elapsed + long), told + long);
            }
        }
    }

    #[tokio::test]
    async fn work_that_is_done_wins_over_a_time_that_is_up() {
        let clock = Clock::manual(Timestamp::EPOCH);
        assert_eq!(clock.timeout(Duration::ZERO, async { 7 }).await, Ok(7));
        let never = std::future::pending::<()>();
        assert_eq!(clock.timeout(Duration::ZERO, never).await, Err(TimeLimitExceeded));
    }
}
