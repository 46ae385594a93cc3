//! Parts that all tests share: the gateway under test, a fake upstream, a client, and waiting.
//!
//! Only `gateway` names items of the program; the rest knows HTTP and nothing else.

pub mod certificates;
pub mod client;
pub mod cutter;
pub mod gateway;
#[allow(dead_code, reason = "it is shared with the tests inside the program")]
pub mod postgres;
mod proof;
pub mod receiver;
pub mod strace;
pub mod time;
pub mod upstream;

pub use certificates::Authority;
pub use client::{Connection, Request, Response, get, post};
pub use gateway::{Gateway, Setup, Ticket};
pub use receiver::{Arrival, Manner, Receiver};
pub use upstream::{Answer, Upstream};
