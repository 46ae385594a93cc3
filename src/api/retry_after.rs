//! `Retry-After` estimates: how long operations of each route have taken.
//!
//! Owns a weighted mean for each route, recent operations counting more. It is a hint:
//! it starts anew with the gateway and is never written down.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cloakroom_domain::http::retry_after;
use cloakroom_domain::operation::OperationState;
use cloakroom_ledger::Operation;

/// Means by route. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RetryEstimates(Arc<RwLock<HashMap<Box<str>, AtomicU64>>>);

/// A new duration counts one part in this many.
const WEIGHT: u64 = 8;
/// About so many operations of a queue are carried out at once: a queue that is this long
/// takes another mean.
const ABREAST: u64 = 32;

impl RetryEstimates {
    /// Notes the duration of a finished operation that a caller was shown. Repeated calls do no
    /// harm: an old operation only brings back the estimate of its time.
    pub fn saw(&self, operation: &Operation) {
        // A cancellation says when the client had enough, not how long the work takes.
        let (OperationState::Succeeded { at: finished }
        | OperationState::Failed { at: finished, .. }) = operation.state
        else {
            return;
        };
        if let Some(started) = operation.started_at {
            self.observe(&operation.route, finished.since(started));
        }
    }

    /// An operation of this route took so long, from the beginning of its first attempt.
    pub fn observe(&self, route: &str, took: Duration) {
        let took = (took.as_micros() as u64).max(1);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(mean) = known.get(route) {
            // Of two at the same time one may be lost; it is a mean of many.
            let before = mean.load(Ordering::Relaxed);
            let after = before - before / WEIGHT + took / WEIGHT;
            mean.store(after, Ordering::Relaxed);
            return;
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(route.into()).or_insert_with(|| AtomicU64::new(took));
    }

    /// When to ask again about an operation of this route, behind `depth` others in its
    /// queue: whole seconds, 1 to 30. A route that has not been seen yet: 1.
    pub fn estimate(&self, route: &str, depth: u64) -> u64 {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mean = known.get(route).map_or(0, |mean| mean.load(Ordering::Relaxed));
        let rounds = depth / ABREAST + 1;
        retry_after::seconds(Duration::from_micros(mean.saturating_mul(rounds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_recent_durations_and_the_queue() {
        let pace = RetryEstimates::default();
        assert_eq!(pace.estimate("orders", 0), 1);
        pace.observe("orders", Duration::from_secs(4));
        assert_eq!(pace.estimate("orders", 0), 4);
        assert_eq!(pace.estimate("orders", 64), 12);
        assert_eq!(pace.estimate("other", 64), 1);
        for _ in 0..100 {
            pace.observe("orders", Duration::from_secs(10));
        }
        assert!((9..=10).contains(&pace.estimate("orders", 0)));
    }

    #[test]
    fn the_estimate_stays_within_1_and_30() {
        let pace = RetryEstimates::default();
        pace.observe("slow", Duration::from_hours(1));
        assert_eq!(pace.estimate("slow", u64::MAX), 30);
        pace.observe("fast", Duration::ZERO);
        assert_eq!(pace.estimate("fast", 0), 1);
    }
}
