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
pub(crate) mod locks;
pub(crate) mod pause;
mod progress;
pub(crate) mod prune;
pub(crate) mod read;
pub(crate) mod reconcile;
pub(crate) mod reseal;
pub(crate) mod retried;
pub(crate) mod sealing_keys;
pub(crate) mod serial_keys;
pub(crate) mod settle;
pub(crate) mod unreadable;
pub(crate) mod verdict;

pub(crate) use crate::operations::accept::accept;
pub(crate) use crate::operations::bodies::{DiscardBody, WriteChunks};
pub(crate) use crate::operations::cancel::Cancel;
pub(crate) use crate::operations::claim::{
    Claim, ClaimExpired, ClaimOrphans, ClaimOverdue, ClaimWaiting, Reclaim,
};
pub(crate) use crate::operations::pause::Pause;
pub(crate) use crate::operations::progress::Report;
pub(crate) use crate::operations::prune::{Free, Prune};
pub(crate) use crate::operations::reconcile::Reconcile;
pub(crate) use crate::operations::serial_keys::{Release, ReleaseDelayed};
pub(crate) use crate::operations::settle::settle;
pub(crate) use crate::operations::verdict::RecordVerdict;
