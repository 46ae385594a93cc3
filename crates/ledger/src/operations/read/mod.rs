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

pub(crate) use answer::answer;
pub(crate) use descendants::descendants;
pub(crate) use events::events;
pub(crate) use find::{find, sequences};
pub(crate) use lanes::{count_waiting, depths, oldest_due, overdue};
pub(crate) use list::list;
pub(crate) use promised::promised;
