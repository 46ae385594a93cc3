//! The verbs of the nodes that share a ledger, one file each.
//!
//! Owns what nodes write of themselves: beats, parts of limits, what they counted, and what is left
//! of those that are gone.

pub(crate) mod depth_repair;
pub(crate) mod fleet;
pub(crate) mod hints;
pub(crate) mod limits;
pub(crate) mod nodes;
pub(crate) mod sweep;

pub(crate) use crate::cluster::depth_repair::RepairDepth;
pub(crate) use crate::cluster::limits::Divide;
pub(crate) use crate::cluster::nodes::{Beat, Leave};
pub(crate) use crate::cluster::sweep::SweepOnce;
