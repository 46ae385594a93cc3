//! Where the ledger hands new deliveries over.
//!
//! Owns the refusal of what must not go out at once: while draining or without a confirmed
//! beat, to another node's receiver, and ahead of others that have been due for long. Its
//! invariant: what was reserved is among the in_flight from before anybody can read that it
//! was handed out, until it is settled or nothing came of it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{DeliveryTransport, WebhookState, executor, ownership};
use cloakroom_domain::delivery::ReceiverKey;
use cloakroom_ledger::{DeliveryLane, DeliveryLease, LeasedDelivery, Outbox, Space};

/// The courier's outbox. It holds the courier weakly: the ledger keeps the outbox, and the
/// courier the ledger, so otherwise neither would ever end.
pub(super) struct WebhookSlots<S: DeliveryTransport>(pub(super) Weak<WebhookState<S>>);

impl<S: DeliveryTransport> Outbox for WebhookSlots<S> {
    fn reserve(&self, receiver: ReceiverKey) -> Option<Box<dyn Space>> {
        let shared = self.0.upgrade()?;
        let now = shared.clock.now();
        if !(shared.settings.may_begin)() || !ownership::is_own(&shared, receiver) {
            return None;
        }
        // First this: whoever drains waits for what is expected.
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

/// Space for one delivery.
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

impl<S: DeliveryTransport> Space for ReservedDeliverySlot<S> {
    fn expect(&mut self, lease: DeliveryLease) {
        self.shared.in_flight.enter(lease);
        self.lease = Some(lease);
    }

    fn take(mut self: Box<Self>, delivery: LeasedDelivery) {
        self.shared.busy.store(true, Ordering::Relaxed);
        self.resolve(Some(delivery));
        executor::begin(&self.shared);
        if self.shared.tasks.is_draining() {
            // Whoever hands back what has not gone out may have done so before this came.
            let waiting = self.shared.traffic().clear();
            self.shared.give_back(&waiting);
        }
    }
}

/// Nothing came of it. Where nobody knows that, it is found by comparing.
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
