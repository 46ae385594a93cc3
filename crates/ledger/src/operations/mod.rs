//! The verbs of operations, one file each.
//!
//! Owns what each write does to the tables of operations. It must not know how writes are queued or
//! grouped, nor who asks.

pub(crate) mod accept;
pub(crate) mod bodies;
pub(crate) mod cancel;
pub(crate) mod capacity;
pub(crate) mod claim;
pub(crate) mod ends;
pub(crate) mod finish;
pub(crate) mod pause;
mod progress;
pub(crate) mod prune;
pub(crate) mod read;
pub(crate) mod reconcile;
pub(crate) mod retried;
pub(crate) mod serial_keys;
pub(crate) mod settle;
pub(crate) mod verdict;

pub(crate) use accept::accept;
pub(crate) use bodies::{DiscardBody, WriteChunks};
pub(crate) use cancel::Cancel;
pub(crate) use claim::{Claim, ClaimExpired, ClaimOrphans, ClaimOverdue, ClaimWaiting, Reclaim};
pub(crate) use pause::Pause;
pub(crate) use progress::Report;
pub(crate) use prune::{Free, Prune};
pub(crate) use reconcile::Reconcile;
pub(crate) use serial_keys::{Release, ReleaseDelayed};
pub(crate) use settle::settle;
pub(crate) use verdict::RecordVerdict;
