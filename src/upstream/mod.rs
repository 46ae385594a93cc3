//! The upstream client: calls to the services behind the gateway.
//!
//! Owns the connections to an upstream and what can be said about a call that went
//! wrong. Its invariant: it says [`Sent::Nothing`] only where no octet of a request can
//! have left, and never sends a request again that may have left. It must not know of
//! operations' states, the ledger, or how clients are answered.
//!
//! [`Sent::Nothing`]: cloakroom_domain::operation::SendState::Nothing

mod body;
mod client;
mod connection;
mod dial;
mod error;
mod exchange;
mod monitor;
mod monitor_client;
mod pool;
mod registry;
mod reply;
mod request_template;
mod settings;

pub use body::{BoxError, CallBody};
pub use client::{Call, Upstream};
pub use error::{ResponseReceived, SentMarker, UpstreamError};
pub use monitor::{Monitor, NamedBy, NamedMonitor, UnknownMonitor};
pub use monitor_client::{MonitorAnswer, MonitorQuery};
pub use registry::Upstreams;
pub use reply::{ResponseBody, UpstreamResponse};
pub use settings::{HeaderCase, Reuse, UpstreamSettings, UpstreamSettingsError};

#[cfg(test)]
mod tests;
