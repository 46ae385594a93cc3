//! The verbs of the nodes that share a ledger, one file each.
//!
//! Owns what nodes write of themselves: beats, parts of limits, what they counted, and what is left
//! of those that are gone.

mod depth_repair;
pub(crate) mod limits;
pub(crate) mod nodes;
pub(crate) mod sweep;

pub(crate) use depth_repair::RepairDepth;
pub(crate) use limits::Divide;
pub(crate) use nodes::{Beat, Leave};
pub(crate) use sweep::SweepOnce;
