//! Telling receivers what happened: what may be told and to where, how it is signed and
//! kept secret, whose turn it is, and when it is tried again.
//!
//! Owns the events that somebody can subscribe to, keys and signatures, where a delivery
//! may go, which fields somebody may add to it, whose goes out next and from where, what
//! an attempt can come to, and the decision about what comes after it. It must not know of
//! sockets, names being looked up, or how a message is stored.

pub mod address;
mod answer;
mod callback;
pub mod cloud_event;
pub mod destination;
pub mod error;
pub mod extra_fields;
mod home;
pub mod keeping;
pub mod key;
mod reach;
mod schedule;
pub mod signature;
mod topic;
pub mod traffic;

pub use answer::Answer;
pub use callback::{Callback, ReceiverKey};
pub use destination::{BadDestination, Destination, NOT_PUBLIC, Rules};
pub use error::DeliveryError;
pub use extra_fields::BadExtraField;
pub use home::home;
pub use key::{BadKey, KeyPair, PublicKey, Secret, SigningKey};
pub use reach::{BadPattern, Reach, UrlPattern};
pub use schedule::{
    Attempted, DEADLINE, Ended, HELD, HOPELESS, LOOKED_AT_AGAIN, Next, RESULT_KEPT, Standing,
    settle,
};
pub use topic::{Topic, Topics, UnknownTopic};
