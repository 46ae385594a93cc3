//! Hand-off: new deliveries go from the commit of their event straight to this node.
//!
//! Owns the refusals: while draining or without a confirmed heartbeat, for a receiver of another
//! node, and ahead of deliveries that have been due for long. Its
//! invariant: a reserved delivery counts as in flight before its lease can be read from the
//! ledger, until it is settled or its commit fails.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{DeliveryTransport, WebhookState, executor, ownership};
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_ledger::{DeliveryLane, DeliveryLease, DeliverySlot, DeliverySlots, LeasedDelivery};

/// The delivery slots that webhooks lend to the ledger. The reference is weak: the ledger keeps
/// the slots and webhooks keep the ledger, so a strong one would keep both alive for ever.
pub(super) struct WebhookSlots<S: DeliveryTransport>(pub(super) Weak<WebhookState<S>>);

impl<S: DeliveryTransport> DeliverySlots for WebhookSlots<S> {
    fn reserve(&self, receiver: ReceiverKey) -> Option<Box<dyn DeliverySlot>> {
        let shared = self.0.upgrade()?;
        let now = shared.clock.now();
        if !(shared.settings.may_begin)() || !ownership::is_own(&shared, receiver) {
            return None;
        }
        // This comes first: draining waits for expected deliveries.
        shared.in_flight.expect();
        let lane = DeliveryLane { receiver, again: false };
        let due_since = shared.ledger.delivery_due_since(lane);
        let rate = shared.ledger.owners().allowed_rate(receiver);
        let promised = || shared.traffic().promise(receiver, rate, due_since, now);
        if shared.tasks.is_draining() || !promised() {
            shared.in_flight.expect_no_more();
            return None;
        }
        Some(Box::new(ReservedDeliverySlot { shared, receiver, lease: None, taken: false }))
    }
}

/// A slot that is reserved for one delivery.
struct ReservedDeliverySlot<S: DeliveryTransport> {
    shared: Arc<WebhookState<S>>,
    receiver: ReceiverKey,
    lease: Option<DeliveryLease>,
    taken: bool,
}

impl<S: DeliveryTransport> ReservedDeliverySlot<S> {
    fn resolve(&mut self, delivery: Option<LeasedDelivery>) {
        self.taken = true;
        let away = self.shared.traffic().kept(self.receiver, delivery);
        self.shared.give_back(&away);
        self.shared.in_flight.expect_no_more();
    }
}

impl<S: DeliveryTransport> DeliverySlot for ReservedDeliverySlot<S> {
    fn expect(&mut self, lease: DeliveryLease) {
        self.shared.in_flight.enter(lease);
        self.lease = Some(lease);
    }

    fn take(mut self: Box<Self>, delivery: LeasedDelivery) {
        self.shared.busy.store(true, Ordering::Relaxed);
        self.resolve(Some(delivery));
        executor::begin(&self.shared);
        if self.shared.tasks.is_draining() {
            // The dispatcher may have handed back waiting deliveries before this one arrived.
            let waiting = self.shared.traffic().clear();
            self.shared.give_back(&waiting);
        }
    }
}

/// The commit failed. If its outcome is unknown, the comparison with the ledger finds out.
impl<S: DeliveryTransport> Drop for ReservedDeliverySlot<S> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        if let Some(lease) = self.lease {
            self.shared.in_flight.leave(lease);
        }
        self.resolve(None);
        self.shared.made_room();
    }
}
