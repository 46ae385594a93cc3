//! The reconciler: checks the ledger from time to time and repairs what is safe.
//!
//! Every node does this. Two at once do no harm, because each repair checks again. A node's death is
//! not left for the next interval: a killed node had counted operations that it did not report, and
//! the depth of a queue decides which requests are refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::EngineContext;
use super::heartbeat::HeartbeatReport;
use cloakroom_domain::reconcile::DiscrepancyReport;

/// Looks at each interval until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    let Some(interval) = engine.settings.reconcile else { return };
    while engine.pause(interval).await {
        let look = Box::pin(engine.ledger.reconcile(true, engine.clock.now()));
        match engine.tasks.unless_draining(look).await {
            None => return,
            Some(Ok(report)) => tell(&report),
            Some(Err(error)) => {
                tracing::warn!(%error, "the ledger could not be checked; trying again at the next interval");
            }
        }
    }
}

/// Counts lanes anew each time that a node has died, until the tasks drain.
pub(super) async fn after_deaths(
    engine: Arc<EngineContext>,
    mut found: watch::Receiver<HeartbeatReport>,
) {
    let mut known = BTreeSet::new();
    loop {
        tokio::select! {
            () = engine.tasks.draining() => return,
            changed = found.changed() => if changed.is_err() { return },
        }
        let died = found.borrow_and_update().died.clone();
        known.retain(|node| died.contains(node));
        if died.is_subset(&known) {
            continue;
        }
        let recount = Box::pin(engine.ledger.recount_lanes());
        let Some(recounted) = engine.tasks.unless_draining(recount).await else { return };
        match recounted {
            Ok(report) => {
                tell(&report);
                known = died;
            }
            // The next beat reminds of it.
            Err(error) => {
                tracing::debug!(%error, "lanes could not be recounted; the next heartbeat tries again");
            }
        }
    }
}

fn tell(report: &DiscrepancyReport) {
    for finding in &report.findings {
        let (kind, count) = (finding.kind.as_str(), finding.count);
        let repaired = finding.kind.is_safe_to_repair();
        tracing::warn!(kind, count, repaired, "{}", finding.kind.says());
    }
    tracing::debug!(operations = report.looked_at, "checked the ledger");
}
