//! Who waits for a change of an operation, and waking them.
//!
//! Owns the list of waiters. A wake-up is a hint: the ledger is the truth, and whoever
//! is woken reads it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::OperationId;

/// Waiters by operation.
#[derive(Debug, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<OperationId, watch::Sender<u64>>>>);

impl Waiters {
    /// Starts watching. Changes from now on are seen, so: watch first, then read.
    pub(super) fn watch(&self, id: OperationId) -> Watch {
        let mut waiters = lock(&self.0);
        let sender = waiters.entry(id).or_insert_with(|| watch::Sender::new(0));
        Watch { id, receiver: sender.subscribe(), waiters: Arc::clone(&self.0) }
    }

    /// Wakes whoever watches these.
    pub(super) fn changed(&self, ids: impl IntoIterator<Item = OperationId>) {
        let waiters = lock(&self.0);
        if waiters.is_empty() {
            return;
        }
        for sender in ids.into_iter().filter_map(|id| waiters.get(&id)) {
            sender.send_modify(|version| *version += 1);
        }
    }
}

type Senders = HashMap<OperationId, watch::Sender<u64>>;

fn lock(waiters: &Mutex<Senders>) -> MutexGuard<'_, Senders> {
    // Each change leaves the map whole.
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees the changes of one operation.
#[derive(Debug)]
pub struct Watch {
    id: OperationId,
    receiver: watch::Receiver<u64>,
    waiters: Arc<Mutex<Senders>>,
}

impl Watch {
    /// Completes when the operation has changed since the last call, or since watching began.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The ledger is gone; whoever waits is told so by its next read.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiters = lock(&self.waiters);
        // This one still counts as a receiver.
        if waiters.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiters.remove(&self.id);
        }
    }
}
