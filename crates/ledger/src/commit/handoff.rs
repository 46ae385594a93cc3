//! The hand-off: new work goes to this node's engine and webhooks without a claim.
//!
//! The engine lends the ledger a [`Desk`]; the committer asks it for a slot before it
//! writes, inserts the operation already leased, and hands it over after the commit. So
//! the front never calls the engine. Webhooks lend [`DeliverySlots`].

use crate::model::Leased;
use crate::webhooks::{DeliveryLease, LeasedDelivery};
use cloakroom_domain::operation::Lane;
use cloakroom_domain::webhooks::ReceiverKey;

/// Lends slots for operations that are handed off to the engine.
pub trait Desk: Send + Sync + 'static {
    /// A slot for a first attempt of that lane, if one is free at once; `overtakes` says that
    /// another one in the lane has just come to be due before. Dropping the reservation gives the
    /// slot back.
    fn reserve(&self, lane: &Lane, overtakes: bool) -> Option<Box<dyn Reservation>>;
}

/// A slot that is kept free for one operation.
pub trait Reservation: Send {
    /// Starts the operation in the slot.
    fn start(self: Box<Self>, leased: Leased);
}

/// Lends slots for deliveries that are handed off to webhooks.
pub trait DeliverySlots: Send + Sync + 'static {
    /// A slot for a first attempt to that receiver, if one is free at once. Dropping it
    /// gives it back.
    fn reserve(&self, receiver: ReceiverKey) -> Option<Box<dyn DeliverySlot>>;
}

/// A slot that is kept free for one delivery.
pub trait DeliverySlot: Send {
    /// Names the delivery before any other reader can see it.
    fn expect(&mut self, lease: DeliveryLease);

    /// Takes the delivery, which is durably handed out.
    fn take(self: Box<Self>, delivery: LeasedDelivery);
}
