//! The end of an operation, and of what waited for it.

pub(crate) mod postgres;
pub(crate) mod sqlite;
