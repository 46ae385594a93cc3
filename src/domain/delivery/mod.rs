//! Telling receivers what happened, as far as that can be said without doing it.
//!
//! Owns the events that somebody can subscribe to, keys and signatures, where a delivery
//! may go and what it may carry, whose goes out next and from where, what an attempt can
//! come to, and the decision about what comes after one. It must not know of sockets,
//! names being looked up or the ledger.

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
mod schedule;
pub mod signature;
mod topic;
pub mod traffic;

pub use answer::Answer;
pub use callback::{Callback, ReceiverKey};
pub use destination::{BadDestination, Destination, Rules};
pub use error::DeliveryError;
pub use extra_fields::BadExtraField;
pub use home::home;
pub use key::{BadKey, KeyPair, PublicKey, Secret, SigningKey};
pub use schedule::{Attempted, DEADLINE, Ended, HELD, HOPELESS, Next, Standing, settle};
pub use topic::{Topic, Topics, UnknownTopic};
