//! Queues: how deep they are, pausing them, and waiting for work.

use crate::Ledger;
use crate::error::LedgerError;
use crate::model::{LaneDepth, Pausing};
use crate::operations::{Pause, read};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

impl Ledger {
    /// Every lane, its depth, and a time before which nothing of it is due.
    pub fn lanes(&self) -> Vec<LaneDepth> {
        self.shared.lanes.snapshot()
    }

    /// How many operations are queued in a queue, over all of its lanes.
    pub fn queue_depth(&self, queue: &str) -> u64 {
        self.shared.lanes.queue_depth(queue)
    }

    /// How many attempts of a queue begin in a second, on all nodes: over the last minute,
    /// as far as this node has seen it.
    pub fn started_per_second(&self, queue: &str) -> f64 {
        self.shared.throughput.of(queue)
    }

    /// When the oldest operation of each of these lanes is due.
    pub async fn oldest_due(&self, lanes: &[Lane]) -> Result<Vec<Option<Timestamp>>, LedgerError> {
        read::oldest_due(&self.shared.store, lanes).await
    }

    /// Pauses a queue or resumes it; false if it was so before. Nothing in it is lost: it
    /// goes on where it was.
    pub async fn pause(&self, wish: Pausing) -> Result<bool, LedgerError> {
        self.submit(Pause { wish }).await
    }

    /// Whether a queue is paused here in the ledger. What another node has paused is seen
    /// within about a second.
    pub fn is_paused(&self, queue: &str) -> bool {
        self.shared.paused.contains(queue)
    }

    /// Completes when there may be something new to claim.
    pub async fn work_came(&self) {
        self.shared.work.notified().await;
    }

    /// Completes when there may be something new to follow.
    pub async fn waits_came(&self) {
        self.shared.waits.notified().await;
    }

    /// Completes when a write has found the disk full.
    pub async fn disk_filled(&self) {
        self.shared.disk_full.notified().await;
    }

    /// The same, for those who free what is stored for webhooks.
    pub async fn disk_filled_for_webhooks(&self) {
        self.shared.disk_full_for_webhooks.notified().await;
    }

    /// Tells that there may be something to claim: a slot became free.
    pub fn look_for_work(&self) {
        self.shared.work.notify_one();
    }
}
