//! Webhooks: topics, destinations, signatures, secrets, scheduling and retries of deliveries.
//!
//! Owns the events that a subscriber can choose, keys and signatures, which URLs a delivery may go to,
//! which fields a subscriber may add to it, which delivery is sent next and by which node, and the
//! decision after an attempt. It must not know of sockets, DNS or how a message is stored.

pub mod address;
mod callback;
mod callback_allowlist;
pub mod cloud_event;
pub mod destination;
pub mod error;
pub mod extra_fields;
pub mod key;
mod ownership;
mod receiver_answer;
mod schedule;
pub mod scheduler;
pub mod secret_storage;
pub mod signature;
mod topic;

pub use callback::{Callback, ReceiverKey};
pub use callback_allowlist::{BadUrlPattern, CallbackAllowlist, UrlPattern};
pub use destination::{BadDestination, Destination, DestinationRules, NOT_PUBLIC};
pub use error::DeliveryError;
pub use extra_fields::BadExtraField;
pub use key::{BadKey, KeyPair, PublicKey, Secret, SigningKey};
pub use ownership::owner_of;
pub use receiver_answer::ReceiverAnswer;
pub use schedule::{
    DEADLINE, DeliveryDecision, DeliveryProgress, HELD, HOPELESS, LOOKED_AT_AGAIN, RESULT_KEPT,
    ScheduleEnd, SendResult, settle,
};
pub use topic::{Topic, Topics, UnknownTopic};
