//! How many attempts may begin in a time, and the tokens taken for it.
//!
//! Owns one bucket. Its invariant: a token that no attempt began with goes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::share::Asker;
use crate::domain::Timestamp;
use crate::domain::limit::{Bucket, Rate};

/// The shortest wait for a token. A fast rate brings several in it, which are then claimed
/// together; the bucket holds a whole second's, so nothing is lost.
const BREATH: Duration = Duration::from_millis(10);

/// Keeps a rate.
#[derive(Debug)]
pub(super) struct Pace {
    bucket: Mutex<Bucket>,
    awaited: AtomicBool,
}

impl Pace {
    pub(super) fn of(rate: Rate, now: Timestamp) -> Arc<Self> {
        let bucket = Mutex::new(Bucket::full(rate, now));
        Arc::new(Self { bucket, awaited: AtomicBool::new(false) })
    }

    /// A token, or when to ask again.
    pub(super) fn take(self: &Arc<Self>, asker: Asker, now: Timestamp) -> Result<Token, Timestamp> {
        if asker == Asker::Newcomer && self.awaited.load(Ordering::SeqCst) {
            return Err(now + BREATH);
        }
        let mut bucket = self.bucket();
        if bucket.take(now) {
            return Ok(Token { pace: Arc::clone(self), used: false });
        }
        if asker == Asker::InLine {
            self.awaited.store(true, Ordering::SeqCst);
        }
        Err(bucket.next_at(now).max(now + BREATH))
    }

    /// Forgets who was refused: they ask again now.
    pub(super) fn call_up(&self) {
        self.awaited.store(false, Ordering::SeqCst);
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        // It holds plain numbers, which are whole between statements.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to begin one attempt; dropped unused, it goes back.
#[derive(Debug)]
pub(super) struct Token {
    pace: Arc<Pace>,
    used: bool,
}

impl Token {
    /// The attempt begins.
    pub(super) const fn used(&mut self) {
        self.used = true;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.used {
            self.pace.bucket().give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_nothing_began_with_goes_back() {
        let now = Timestamp::EPOCH;
        let pace = Pace::of("1/s".parse().unwrap(), now);
        drop(pace.take(Asker::InLine, now));
        let mut token = pace.take(Asker::InLine, now).unwrap();
        token.used();
        drop(token);
        assert_eq!(pace.take(Asker::InLine, now).err(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn who_has_just_come_takes_no_token_that_somebody_in_line_waits_for() {
        let now = Timestamp::EPOCH;
        let pace = Pace::of("1/s".parse().unwrap(), now);
        pace.take(Asker::InLine, now).unwrap().used();
        assert!(pace.take(Asker::InLine, now).is_err());
        let later = now + Duration::from_secs(1);
        assert!(pace.take(Asker::Newcomer, later).is_err());
        pace.call_up();
        assert!(pace.take(Asker::Newcomer, later).is_ok());
    }

    #[test]
    fn a_fast_rate_is_not_asked_for_every_token() {
        let now = Timestamp::EPOCH;
        let pace = Pace::of("1000/s".parse().unwrap(), now);
        while let Ok(mut token) = pace.take(Asker::InLine, now) {
            token.used();
        }
        assert_eq!(pace.take(Asker::InLine, now).err(), Some(now + BREATH));
    }
}
