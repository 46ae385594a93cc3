//! The outbound side: calls to the services that the gateway stands before.
//!
//! Owns the connections to an upstream and what can be said about a call that went
//! wrong. Its invariant: it says [`Sent::Nothing`] only where no octet of a request can
//! have left, and never sends a request again that may have left. It must not know of
//! operations' states, the ledger, or how clients are answered.
//!
//! [`Sent::Nothing`]: cloakroom_domain::operation::Sent::Nothing

mod ask;
mod body;
mod broken;
mod client;
mod connection;
mod dial;
mod exchange;
mod monitor;
mod outgoing;
mod pool;
mod registry;
mod reply;
mod settings;

pub use ask::{Asked, Question};
pub use body::{BoxError, CallBody};
pub use broken::{Broken, Came, SentMarker};
pub use client::{Call, Upstream};
pub use monitor::{Monitor, Named, NamedBy, UnknownMonitor};
pub use registry::Upstreams;
pub use reply::{Reply, ReplyBody};
pub use settings::{HeaderCase, Reuse, Settings, SettingsError};

#[cfg(test)]
mod tests;
