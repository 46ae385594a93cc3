//! Whether attempts to an upstream begin at all.
//!
//! Owns its breaker, and tells when that opens and closes. Its invariant: a probe that
//! ends without having found anything out makes room for another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::{Breaker, Pass, Sign, State};

/// The way to one upstream.
#[derive(Debug)]
pub(super) struct Door {
    upstream: Arc<str>,
    breaker: Mutex<Breaker>,
}

impl Door {
    pub(super) fn to(upstream: &Arc<str>) -> Arc<Self> {
        Arc::new(Self { upstream: Arc::clone(upstream), breaker: Mutex::default() })
    }

    /// Leave for an attempt, or when to ask again.
    pub(super) fn pass(self: &Arc<Self>, now: Timestamp) -> Result<Passage, Timestamp> {
        let pass = self.breaker().pass(now)?;
        Ok(Passage { door: Arc::clone(self), pass: Some(pass) })
    }

    /// How the breaker stands.
    pub(super) fn state(&self) -> State {
        self.breaker().state().clone()
    }

    fn ended(&self, pass: Pass, sign: Sign, now: Timestamp) {
        let (before, after) = {
            let mut breaker = self.breaker();
            let before = breaker.state().clone();
            breaker.ended(pass, sign, now, &mut rand::rng());
            (before, breaker.state().clone())
        };
        tell(&self.upstream, &before, &after);
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Each change leaves it whole.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(upstream: &str, before: &State, after: &State) {
    match (before, after) {
        (State::Closed { .. }, State::Open { .. }) => tracing::warn!(
            upstream,
            "the upstream does not answer; its operations wait, and one at a time tries again"
        ),
        (State::Open { .. } | State::HalfOpen { .. }, State::Closed { .. }) => {
            tracing::info!(upstream, "the upstream answers again; its operations go on");
        }
        _ => {}
    }
}

/// Leave for one attempt.
#[derive(Debug)]
pub(super) struct Passage {
    door: Arc<Door>,
    // None once it is known what came of it.
    pass: Option<Pass>,
}

impl Passage {
    /// The attempt has ended, and says this about the upstream, if anything.
    pub(super) fn ended(&mut self, sign: Option<Sign>, now: Timestamp) {
        if let Some(sign) = sign
            && let Some(pass) = self.pass.take()
        {
            self.door.ended(pass, sign, now);
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.pass == Some(Pass::Probe) {
            self.door.breaker().abandoned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_probe_that_is_dropped_makes_room_for_another() {
        let now = Timestamp::EPOCH;
        let door = Door::to(&"orders".into());
        for _ in 0..5 {
            door.pass(now).unwrap().ended(Some(Sign::Unreached), now);
        }
        let later = now + Duration::from_mins(1);
        let probe = door.pass(later).unwrap();
        assert!(door.pass(later).is_err());
        drop(probe);
        door.pass(later).unwrap().ended(Some(Sign::Answers), later);
        assert!(matches!(door.state(), State::Closed { .. }));
    }
}
