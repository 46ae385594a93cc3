//! The parameters of the verbs of webhooks, and their outputs.

mod deliveries;
mod messages;
mod subscriptions;

pub use deliveries::{
    AttemptRecord, AttemptSettlement, Cause, ClaimedDeliveries, DeliveriesOf, Delivery,
    DeliveryCounts, DeliveryEnd, DeliveryKey, DeliveryLease, DeliveryListing, DeliveryPage,
    DeliverySettled, DeliverySettlement, DeliveryState, DeliveryWant, LeasedDelivery,
    PrunedDeliveries, Redelivered, ReplayStep, Replayed, Selected,
};
pub use messages::{Format, Message, Scribe};
pub use subscriptions::{
    Change, Changed, Changing, DisabledFor, FirstCallback, KeyKind, KeyOwner, NewCallbacks, NewKey,
    NewSubscription, NoSubscriptionId, PublishedKey, Receiver, Rotated, Rotation, SigningKey,
    Subscribed, Subscription, SubscriptionId, SubscriptionListing, SubscriptionSettings,
    SubscriptionState,
};
