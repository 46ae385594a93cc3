//! The gateway's own resources: monitor, document, result, events, list, and what
//! operators do with them.
//!
//! Owns how an operation looks from outside, and the one table of problems. Everything
//! here lives under the prefix; the public listener and the admin listener both mount
//! it. It must not know how requests are accepted, carried out or sent.

pub mod caller;
mod cancel;
pub mod context;
mod delete;
pub mod document;
mod events;
mod json;
mod list;
mod live;
mod members;
pub mod messages;
mod monitor;
mod negotiation;
mod nodes;
pub mod openapi;
pub mod origin;
pub mod own;
pub mod pace;
pub mod pending;
pub mod problem;
mod progress;
mod queues;
mod range;
mod reconcile;
pub mod recorded;
mod reseal;
mod result;
mod retry;
mod router;
mod serial;
pub mod standing;
mod status;
mod tree;
mod verdict;
mod visit;
pub mod webhooks;

pub use caller::{Caller, Peer, only, principal_of};
pub use context::{Api, ApiSettings};
pub use document::Document;
pub use messages::Messages;
pub use pace::Pace;
pub use problem::Problem;
pub use router::{is_resource, operators_router, public_router};
pub use webhooks::{Scout, Unfit, Unjudged, WebhookSettings};
