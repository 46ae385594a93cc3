//! HTTP semantics: every decision that the head of a request or an answer allows.
//!
//! Owns the reading and writing of fields, paths and URLs. Each function is pure and takes plain
//! values (`http` types, durations, instants), so the front only has to call them in order. It must
//! not know of configuration, sockets, the ledger or the JSON of problems: its errors are enums whose
//! texts tell a client what to do next.
//!
//! Within this module the crate `http` is written `::http`.

pub mod anonymous_fields;
pub mod answer_head;
pub mod body_method;
pub mod expectation;
pub mod forwarded;
mod grammar;
pub mod http_date;
pub mod hygiene;
pub mod idempotency;
pub mod links;
pub mod location;
pub mod media_type;
pub mod operation_headers;
pub mod other_protocol;
pub mod path;
pub mod pattern;
pub mod preconditions;
pub mod prefer;
pub mod public_url;
pub mod redirect;
pub mod relocation;
pub mod request_override;
pub mod retry_after;
pub mod route_table;
pub mod trace;
pub mod via;
pub mod websocket;

#[cfg(test)]
mod proportion_tests;
