//! Deliveries in flight: leased to this node and not yet settled.
//!
//! Owns the set of leases. Its invariant: a lease is in it from its arrival until its settlement
//! has reached the ledger, or until its task has panicked: the ledger then still names this node,
//! and the comparison with the ledger finds the delivery.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use cloakroom_ledger::DeliveryLease;

/// The leases that this node holds.
#[derive(Debug, Default)]
pub(super) struct DeliveriesInFlight {
    held: Mutex<HeldLeases>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct HeldLeases {
    leases: HashSet<DeliveryLease>,
    /// Reserved deliveries whose leases are not known yet.
    expected: usize,
}

impl HeldLeases {
    fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.expected == 0
    }
}

impl DeliveriesInFlight {
    /// Adds a lease of this node.
    pub(super) fn enter(&self, lease: DeliveryLease) {
        self.held().leases.insert(lease);
    }

    /// This node has settled it, or has stopped working on it.
    pub(super) fn leave(&self, lease: DeliveryLease) {
        self.change(|held| {
            held.leases.remove(&lease);
        });
    }

    /// Adds a reserved delivery.
    pub(super) fn expect(&self) {
        self.held().expected += 1;
    }

    /// Removes a reserved delivery: its lease was entered, or its commit failed.
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

    /// The leases of `named` that are not in flight here.
    pub(super) fn missing(&self, named: Vec<DeliveryLease>) -> Vec<DeliveryLease> {
        let held = self.held();
        named.into_iter().filter(|lease| !held.leases.contains(lease)).collect()
    }

    /// Completes when nothing is in flight.
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
