//! What a webhook is, as far as that can be said without sending one.
//!
//! Owns keys and signatures, where a delivery may go, which fields somebody may add to it,
//! and what an attempt can come to. It must not know of sockets, names being looked up or
//! the ledger.

pub mod address;
pub mod cloud_event;
pub mod destination;
pub mod error;
pub mod extra_fields;
pub mod key;
pub mod signature;

pub use destination::{BadDestination, Destination, Rules};
pub use error::DeliveryError;
pub use extra_fields::BadExtraField;
pub use key::{BadKey, KeyPair, PublicKey, Secret, SigningKey};
