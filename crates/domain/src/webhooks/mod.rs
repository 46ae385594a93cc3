//! Telling receivers what happened: what may be told and to where, how it is signed and
//! kept secret, whose turn it is, and when it is tried again.
//!
//! Owns the events that somebody can subscribe to, keys and signatures, where a delivery
//! may go, which fields somebody may add to it, whose goes out next and from where, what
//! an attempt can come to, and the decision about what comes after it. It must not know of
//! sockets, names being looked up, or how a message is stored.

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
