//! Log lines about writes that the ledger refuses.
//!
//! Its invariant: every refusal is counted in the metric, however few lines there are:
//! while a disk is full every write fails, and a line for each would fill what is left of
//! it.

use crate::LedgerError;
use cloakroom_runtime::LogThrottle;
use cloakroom_runtime::clock::Clock;

/// The refusals since the last line.
#[derive(Debug, Default)]
pub(crate) struct Complaints(LogThrottle);

impl Complaints {
    /// A write was refused.
    pub(crate) fn note(&self, error: &LedgerError, clock: &Clock) {
        metrics::counter!("cloakroom_ledger_refused_writes_total").increment(1);
        if let Some(refused) = self.0.due(clock) {
            tracing::error!(%error, refused, "the ledger refuses writes");
        }
    }
}
