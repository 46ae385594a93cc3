//! Looks through the ledger from time to time, and repairs what is safe.
//!
//! Every node does. Two at once do no harm: each repair looks again.

use std::sync::Arc;

use super::Shared;
use crate::domain::reconcile::Report;

/// Looks at each interval until the tasks drain.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(interval) = shared.settings.reconcile else { return };
    while shared.pause(interval).await {
        match shared.ledger.reconcile(true, shared.clock.now()).await {
            Ok(report) => tell(&report),
            Err(error) => tracing::warn!(%error, "the ledger could not be looked through"),
        }
    }
}

fn tell(report: &Report) {
    for finding in &report.findings {
        let (kind, count) = (finding.kind.as_str(), finding.count);
        let repaired = finding.kind.is_safe_to_repair();
        tracing::warn!(kind, count, repaired, "{}", finding.kind.says());
    }
    tracing::debug!(operations = report.looked_at, "looked through the ledger");
}
