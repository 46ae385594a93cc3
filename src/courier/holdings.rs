//! What this node was handed to send and has not settled.
//!
//! Owns that set. Its invariant: a hand-out is in it from its arrival until its settlement
//! has reached the ledger, or until its task has come to a bad end: then the ledger goes on
//! naming this node, and it is found by comparing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ledger::DeliveryLease;

/// What this node holds.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    held: Mutex<HashSet<DeliveryLease>>,
    emptied: Notify,
}

impl Holdings {
    /// It was handed out to this node.
    pub(super) fn enter(&self, lease: DeliveryLease) {
        self.held().insert(lease);
    }

    /// It is no longer this node's, or nobody here sees to it any more.
    pub(super) fn leave(&self, lease: DeliveryLease) {
        let mut held = self.held();
        held.remove(&lease);
        if held.is_empty() {
            drop(held);
            self.emptied.notify_waiters();
        }
    }

    /// Those of `named` that are not held.
    pub(super) fn missing(&self, named: Vec<DeliveryLease>) -> Vec<DeliveryLease> {
        let held = self.held();
        named.into_iter().filter(|lease| !held.contains(lease)).collect()
    }

    /// Completes when nothing is held.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.held().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<DeliveryLease>> {
        // Each change leaves it whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
