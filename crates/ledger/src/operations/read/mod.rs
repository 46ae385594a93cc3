//! Reads of operations.

pub(crate) mod postgres;
pub(crate) mod sqlite;
