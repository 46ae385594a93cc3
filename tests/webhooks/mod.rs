//! Webhooks: signatures, where they may go, and what becomes of an attempt; and what
//! clients and operators see of them.
//!
//! The sender is called as the gateway calls it; receivers are real sockets.

mod bad_requests;
mod callbacks;
mod cli;
mod cloud_events;
pub mod delivery_listing;
mod delivery_requests;
mod example;
mod full_disk;
mod http2;
mod judges;
mod kills;
mod listen_command;
mod lookups;
mod outward;
mod receiver_errors;
mod receiving;
mod redelivery;
mod reference_receivers;
mod scene;
mod signing;
mod slow;
mod ssrf_guard;
mod subscriptions;
