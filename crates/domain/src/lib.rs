//! The vocabulary and the decisions of cloakroom: identities, states, and pure functions on them.
//!
//! Every other module speaks in these terms. Each function depends on its arguments alone: time and
//! randomness come in as values. The crate must not know of databases, sockets, HTTP servers or the
//! runtime.

pub mod breaker;
pub mod connections;
pub mod database_url;
pub mod drift;
pub mod fair_share;
pub mod fields;
pub mod fleet;
pub mod http;
pub mod job;
pub mod limit;
pub mod operation;
pub mod pointer;
pub mod principal;
pub mod pruning;
pub mod reconcile;
pub mod sealer;
pub mod sealing;
pub mod ticket;
pub mod timestamp;
pub mod urgency;
pub mod webhooks;

pub use database_url::{BadDatabaseUrl, DatabaseUrl};
pub use fields::Fields;
pub use principal::Principal;
pub use ticket::{OperationId, Ticket, TicketKey};
pub use timestamp::Timestamp;
