//! The group commit: how writes become durable together, and what follows from that.
//!
//! Owns the way of a write from its caller into a transaction and back. It must not know what a
//! verb does there; verbs are in `operations`, `cluster` and `webhooks`.

pub(crate) mod committer;
pub(crate) mod effects;
pub(crate) mod handoff;
pub(crate) mod transaction;
pub(crate) mod verb;
pub(crate) mod write_queue;
