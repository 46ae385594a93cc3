//! Telling receivers what happened: what may be told, and when it is tried again.
//!
//! Owns the events that somebody can subscribe to and the decision about what comes after
//! an attempt to deliver. It must not know how a message is sent or stored.

mod callback;
mod home;
mod schedule;
mod topic;
pub mod traffic;

pub use callback::{Callback, ReceiverKey};
pub use home::home;
pub use schedule::{Attempted, DEADLINE, Ended, HELD, HOPELESS, Next, Standing, settle};
pub use topic::{Topic, Topics, UnknownTopic};
