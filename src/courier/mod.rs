//! Webhooks on their way out: signed, sent to where they may go, and what came of it.
//!
//! Owns the attempt to deliver one message to one receiver. Its invariants: no address is
//! dialled that was not judged, no redirect is followed, and no attempt lasts longer or
//! reads more than it may, whatever the receiver does. It must not know how operations are
//! accepted or carried out.

mod answer;
mod connection;
mod dial;
mod guard;
mod pool;
mod resolver;
mod sender;
mod signer;

pub use dial::Trust;
pub use guard::{Guard, Refused};
pub use resolver::{Resolver, SystemResolver};
pub use sender::{Asked, Attempted, Sender, SenderSettings, Target};
pub use signer::{BadMessageId, Message};
