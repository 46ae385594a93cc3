//! Webhooks: signatures, where they may go, and what becomes of an attempt.

mod callbacks;
mod cli;
mod receiving;
mod subscriptions;
