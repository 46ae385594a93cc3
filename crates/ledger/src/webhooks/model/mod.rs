//! The parameters of the verbs of webhooks, and their outputs.

mod deliveries;
mod messages;
mod subscriptions;

pub use crate::webhooks::model::deliveries::{
    AttemptRecord, AttemptSettlement, Cause, ClaimedDeliveries, DeliveriesOf, Delivery,
    DeliveryCounts, DeliveryEnd, DeliveryKey, DeliveryLease, DeliveryListing, DeliveryPage,
    DeliverySelection, DeliverySettled, DeliverySettlement, DeliveryState, DeliveryWant,
    LeasedDelivery, PrunedDeliveries, RedeliveryOutcome, ReplayStep, ReplayStepOutcome,
};
pub use crate::webhooks::model::messages::{Format, Message, MessageRenderer};
pub use crate::webhooks::model::subscriptions::{
    DisabledFor, FirstCallback, KeyKind, KeyOwner, KeyRotation, NewCallbacks, NewKey,
    NewSubscription, NoSubscriptionId, PublishedKey, Receiver, RotationOutcome, StoredKey,
    SubscribeOutcome, Subscription, SubscriptionChange, SubscriptionId, SubscriptionListing,
    SubscriptionSettings, SubscriptionState, SubscriptionUpdate, UpdateOutcome,
};
