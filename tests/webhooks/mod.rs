//! Webhooks: signatures, where they may go, and what becomes of an attempt.
//!
//! The sender is called as the gateway calls it; receivers are real sockets.

mod example;
mod guarding;
mod http2;
mod judges;
mod listening;
mod outward;
mod receiving;
mod sending;
mod signing;
mod trouble;
