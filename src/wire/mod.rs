//! HTTP/1.1 as a client speaks it to software of every kind.
//!
//! Owns what lies between hyper and a connection: each answer's head is read here, as widely as
//! browsers read it, and hyper gets only what frames the answer; and a request that can no longer
//! be written does not keep its answer from being read. Its invariant: a connection whose answer
//! was odd, or whose request did not get through, is not used again. It must not know whom it
//! talks to.

mod answer;
mod exchange;
mod socket;

pub use exchange::{Exchange, Fault};
pub use socket::Wire;
