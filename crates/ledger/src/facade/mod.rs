//! The methods of [`Ledger`](crate::Ledger), by subject: each submits a verb or asks a read.

mod cluster;
mod maintenance;
mod operations;
pub(crate) mod poller;
mod queues;
pub(crate) mod read_batcher;
pub(crate) mod recount;
