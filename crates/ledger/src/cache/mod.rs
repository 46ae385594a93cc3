//! The caches of this process: facts of the ledger that it need not ask for.

pub(crate) mod counters;
pub(crate) mod lane_depths;
pub(crate) mod paused_queues;
pub(crate) mod read_cache;
pub(crate) mod throughput;
pub(crate) mod watch;
