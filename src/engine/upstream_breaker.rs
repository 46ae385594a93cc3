//! The circuit breaker of one upstream.
//!
//! Owns the breaker and logs when it opens and closes. Its invariant: a probe that ends without a
//! finding makes room for another one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::{Breaker, BreakerPass, BreakerPhase, HealthSignal};

/// The circuit breaker of one upstream.
#[derive(Debug)]
pub(super) struct UpstreamBreaker {
    upstream: Arc<str>,
    breaker: Mutex<Breaker>,
}

impl UpstreamBreaker {
    pub(super) fn to(upstream: &Arc<str>) -> Arc<Self> {
        Arc::new(Self { upstream: Arc::clone(upstream), breaker: Mutex::default() })
    }

    /// Admits an attempt, or tells when to ask again.
    pub(super) fn admit(self: &Arc<Self>, now: Timestamp) -> Result<Admission, Timestamp> {
        let pass = self.lock().pass(now)?;
        Ok(Admission { breaker: Arc::clone(self), pass: Some(pass) })
    }

    /// The state of the breaker.
    pub(super) fn state(&self) -> BreakerPhase {
        self.lock().state().clone()
    }

    fn ended(&self, pass: BreakerPass, sign: HealthSignal, now: Timestamp) {
        let (before, after) = {
            let mut breaker = self.lock();
            let before = breaker.state().clone();
            breaker.ended(pass, sign, now, &mut rand::rng());
            (before, breaker.state().clone())
        };
        tell(&self.upstream, &before, &after);
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        // Each change leaves it whole.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(upstream: &str, before: &BreakerPhase, after: &BreakerPhase) {
    match (before, after) {
        (BreakerPhase::Closed { .. }, BreakerPhase::Open { .. }) => tracing::warn!(
            upstream,
            "the upstream does not respond; its operations wait, and one at a time probes it"
        ),
        (
            BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. },
            BreakerPhase::Closed { .. },
        ) => {
            tracing::info!(upstream, "the upstream responds again; its operations continue");
        }
        _ => {}
    }
}

/// The admission of one attempt.
#[derive(Debug)]
pub(super) struct Admission {
    breaker: Arc<UpstreamBreaker>,
    // None once it is known what came of it.
    pass: Option<BreakerPass>,
}

impl Admission {
    /// The attempt has ended, and says this about the upstream, if anything.
    pub(super) fn ended(&mut self, sign: Option<HealthSignal>, now: Timestamp) {
        if let Some(sign) = sign
            && let Some(pass) = self.pass.take()
        {
            self.breaker.ended(pass, sign, now);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.pass == Some(BreakerPass::Probe) {
            self.breaker.lock().abandoned();
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
        let breaker = UpstreamBreaker::to(&"orders".into());
        for _ in 0..5 {
            breaker.admit(now).unwrap().ended(Some(HealthSignal::Unreached), now);
        }
        let later = now + Duration::from_mins(1);
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err());
        drop(probe);
        breaker.admit(later).unwrap().ended(Some(HealthSignal::Answers), later);
        assert!(matches!(breaker.state(), BreakerPhase::Closed { .. }));
    }
}
