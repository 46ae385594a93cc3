//! What the log is told of writes that the ledger refuses.
//!
//! Owns the restraint: while a disk is full every write fails, and a line for each would
//! fill what is left of it. Its invariant: every refusal is counted, in the metric and in
//! the next line.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::LedgerError;
use crate::domain::Timestamp;

/// How long the log is spared after a line.
const SPARED: Duration = Duration::from_secs(10);

/// The refusals since the last line.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Unsaid>);

#[derive(Debug, Default)]
struct Unsaid {
    said_at: Option<Timestamp>,
    refused: u64,
}

impl Complaints {
    /// A write was refused.
    pub(super) fn note(&self, error: &LedgerError, now: Timestamp) {
        metrics::counter!("cloakroom_ledger_refused_writes_total").increment(1);
        if let Some(refused) = self.due(now) {
            tracing::error!(%error, refused, "the ledger refuses writes");
        }
    }

    /// How many to speak of now, if it is time to.
    fn due(&self, now: Timestamp) -> Option<u64> {
        // Each change leaves both members whole.
        let mut unsaid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unsaid.refused += 1;
        if unsaid.said_at.is_some_and(|at| now.since(at) < SPARED) {
            return None;
        }
        unsaid.said_at = Some(now);
        Some(std::mem::take(&mut unsaid.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_is_told_at_once_and_the_next_ones_together() {
        let complaints = Complaints::default();
        let start = Timestamp::EPOCH + Duration::from_hours(1);
        assert_eq!(complaints.due(start), Some(1));
        assert_eq!(complaints.due(start + Duration::from_secs(1)), None);
        assert_eq!(complaints.due(start + Duration::from_secs(9)), None);
        assert_eq!(complaints.due(start + SPARED), Some(3));
        assert_eq!(complaints.due(start + SPARED), None);
    }
}
