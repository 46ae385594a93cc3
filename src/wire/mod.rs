//! HTTP/1.1 as a client speaks it to software of every kind.
//!
//! Owns what lies between hyper and a connection: each answer's head is read here, as widely as
//! browsers read it, and hyper gets only what frames the answer; and a request that can no longer
//! be written does not keep its answer from being read. Its invariants: a connection whose answer
//! was odd, or whose request did not get through, is not used again; and no octet of a request is
//! written to a used connection at which something lies unread. It must not know whom it talks to.

mod exchange;
mod head_reader;
mod socket;
#[cfg(test)]
mod tests;
mod unread;

pub use exchange::{AnswerFault, Exchange};
pub use socket::Wire;
pub use unread::PeekUnread;
