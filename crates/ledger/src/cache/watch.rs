//! The watchers of operations, and waking them.
//!
//! Owns the list of waiters. A wake-up is a hint: the ledger is the truth, and a caller that
//! is woken reads it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use cloakroom_domain::OperationId;

/// Waiters by operation.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_id: Arc<Mutex<Watched>>,
    came: Notify,
}

type Watched = HashMap<OperationId, WatchEntry>;

#[derive(Debug)]
struct WatchEntry {
    sender: watch::Sender<u64>,
    /// The latest event that a look has seen.
    seen: Option<u32>,
}

impl Waiters {
    /// Starts watching. Changes from now on are seen, so: watch first, then read.
    pub(crate) fn watch(&self, id: OperationId) -> Watch {
        let mut waiters = lock(&self.by_id);
        let entry = waiters
            .entry(id)
            .or_insert_with(|| WatchEntry { sender: watch::Sender::new(0), seen: None });
        let receiver = entry.sender.subscribe();
        self.came.notify_one();
        Watch { id, receiver, waiters: Arc::clone(&self.by_id) }
    }

    /// Wakes the watchers of these.
    pub(crate) fn changed(&self, ids: impl IntoIterator<Item = OperationId>) {
        let waiters = lock(&self.by_id);
        if waiters.is_empty() {
            return;
        }
        for entry in ids.into_iter().filter_map(|id| waiters.get(&id)) {
            entry.sender.send_modify(|version| *version += 1);
        }
    }

    /// What is watched.
    pub(crate) fn ids(&self) -> Vec<OperationId> {
        lock(&self.by_id).keys().copied().collect()
    }

    /// A look saw the number of the latest event; wakes who watches if that is news. How
    /// old the news is that a watcher has read is unknown, so the first look counts.
    pub(crate) fn looked(&self, id: OperationId, sequence: u32) -> bool {
        let mut waiters = lock(&self.by_id);
        let Some(entry) = waiters.get_mut(&id) else { return false };
        let news = entry.seen.replace(sequence) != Some(sequence);
        if news {
            entry.sender.send_modify(|version| *version += 1);
        }
        news
    }

    /// Completes when a watcher has begun.
    pub(crate) async fn came(&self) {
        self.came.notified().await;
    }
}

fn lock(waiters: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    // Each change leaves the map whole.
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees the changes of one operation.
#[derive(Debug)]
pub struct Watch {
    id: OperationId,
    receiver: watch::Receiver<u64>,
    waiters: Arc<Mutex<Watched>>,
}

impl Watch {
    /// Completes when the operation has changed since the last call, or since watching began.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The ledger is gone; a watcher is told so by its next read.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiters = lock(&self.waiters);
        // This one still counts as a receiver.
        if waiters.get(&self.id).is_some_and(|entry| entry.sender.receiver_count() <= 1) {
            waiters.remove(&self.id);
        }
    }
}
