//! The gateway's HTTP API: monitor, document, result, events, lists, and the operators' actions.
//!
//! Owns how an operation looks from outside, and the one table of problems. Everything
//! here lives under the prefix; the public listener and the admin listener both mount
//! it. It must not know how requests are accepted, carried out or sent.

pub mod accepted;
mod cancel;
pub mod context;
mod delete;
pub mod document;
mod endpoint;
mod events;
mod extract;
mod json;
mod json_object;
mod list;
mod live;
mod monitor;
mod negotiation;
mod nodes;
pub mod openapi;
pub mod origin;
pub mod principal;
pub mod problem;
mod progress;
pub mod queue_status;
mod queues;
mod range;
mod reconcile;
pub mod recorded_response;
mod reseal;
pub mod response;
mod result;
mod retry;
pub mod retry_after;
mod router;
mod serial;
mod status;
mod tree;
mod verdict;
pub mod webhook_payloads;
pub mod webhooks;

pub use context::{Api, ApiSettings};
pub use document::Document;
pub use principal::{Caller, Peer, only, principal_of};
pub use problem::Problem;
pub use retry_after::RetryEstimates;
pub use router::{is_resource, operators_router, public_router};
pub use webhook_payloads::WebhookPayloads;
pub use webhooks::{ReceiverProbe, UrlCheckError, UrlRejection, WebhookSettings};
