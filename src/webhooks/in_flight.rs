//! What this node was handed to send and has not settled.
//!
//! Owns that set. Its invariant: a hand-out is in it from its arrival until its settlement
//! has reached the ledger, or until its task has come to a bad end: then the ledger goes on
//! naming this node, and it is found by comparing.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use cloakroom_ledger::DeliveryLease;

/// What this node holds.
#[derive(Debug, Default)]
pub(super) struct DeliveriesInFlight {
    held: Mutex<HeldLeases>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct HeldLeases {
    leases: HashSet<DeliveryLease>,
    /// What may be handed out at any moment, under a lease that is not known yet.
    expected: usize,
}

impl HeldLeases {
    fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.expected == 0
    }
}

impl DeliveriesInFlight {
    /// It was handed out to this node.
    pub(super) fn enter(&self, lease: DeliveryLease) {
        self.held().leases.insert(lease);
    }

    /// It is no longer this node's, or nobody here sees to it any more.
    pub(super) fn leave(&self, lease: DeliveryLease) {
        self.change(|held| {
            held.leases.remove(&lease);
        });
    }

    /// One more may be handed out at any moment.
    pub(super) fn expect(&self) {
        self.held().expected += 1;
    }

    /// What was expected was handed out and entered, or will not be.
    pub(super) fn expect_no_more(&self) {
        self.change(|held| held.expected = held.expected.saturating_sub(1));
    }

    fn change(&self, change: impl FnOnce(&mut HeldLeases)) {
        let mut held = self.held();
        change(&mut held);
        if held.is_empty() {
            drop(held);
            self.emptied.notify_waiters();
        }
    }

    /// Those of `named` that are not held.
    pub(super) fn missing(&self, named: Vec<DeliveryLease>) -> Vec<DeliveryLease> {
        let held = self.held();
        named.into_iter().filter(|lease| !held.leases.contains(lease)).collect()
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

    fn held(&self) -> MutexGuard<'_, HeldLeases> {
        // Each change leaves it whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
