//! Webhooks: signatures, where they may go, and what becomes of an attempt; and what
//! clients and operators see of them.
//!
//! The sender is called as the gateway calls it; receivers are real sockets.

mod again;
mod believed;
mod callbacks;
mod cli;
mod cloud_events;
mod example;
mod guarding;
mod http2;
mod judges;
mod kills;
mod listening;
mod lookups;
mod outward;
mod receiving;
mod refusing;
mod room;
mod scene;
mod sending;
mod signing;
mod slow;
mod subscriptions;
pub mod told;
mod trouble;
