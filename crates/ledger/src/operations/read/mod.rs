//! The reads of operations, one file each.
//!
//! Each statement sees one moment, so an operation is always in one state.

pub(crate) mod answer;
pub(crate) mod descendants;
pub(crate) mod events;
pub(crate) mod find;
pub(crate) mod lanes;
pub(crate) mod list;
pub(crate) mod promised;

pub(crate) use crate::operations::read::answer::answer;
pub(crate) use crate::operations::read::descendants::descendants;
pub(crate) use crate::operations::read::events::events;
pub(crate) use crate::operations::read::find::{find, sequences};
pub(crate) use crate::operations::read::lanes::{count_waiting, depths, oldest_due, overdue};
pub(crate) use crate::operations::read::list::list;
pub(crate) use crate::operations::read::promised::promised;
