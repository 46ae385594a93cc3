//! The status of queues and upstreams, on this node and on all nodes.
//!
//! Owns the values that are shown; `app` supplies the function that reads them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use cloakroom_domain::breaker::BreakerPhase;
use cloakroom_domain::limit::Rate;
use cloakroom_domain::urgency::QueueTarget;
use cloakroom_ledger::LedgerError;

/// Reads the status; called once for each request that shows it.
pub type ReadQueueStatus =
    Arc<dyn Fn() -> BoxFuture<'static, Result<QueueStatusReport, LedgerError>> + Send + Sync>;

/// The status of all queues and upstreams.
#[derive(Clone, Debug, Default)]
pub struct QueueStatusReport {
    /// The backlog by queue and upstream; rows of the same pair are added up.
    pub lanes: Vec<LaneStatus>,
    /// The queues.
    pub queues: Vec<QueueStatus>,
    /// The upstreams.
    pub upstreams: Vec<UpstreamStatus>,
}

/// The backlog of one queue for one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// The queue's name.
    pub queue: String,
    /// The upstream's name.
    pub upstream: String,
    /// The backlog.
    pub backlog: Backlog,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Operations that are ready or due later.
    pub depth: u64,
    /// How long the oldest that is due has been waiting; none where nothing is due.
    pub oldest: Option<Duration>,
    /// Octets that are stored for operations which have not ended.
    pub stored: u64,
}

impl Backlog {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            depth: self.depth + other.depth,
            oldest: self.oldest.max(other.oldest),
            stored: self.stored + other.stored,
        }
    }
}

impl QueueStatusReport {
    /// The backlog of a queue, for all upstreams.
    pub fn in_queue(&self, queue: &str) -> Backlog {
        self.backlog(|lane| lane.queue == queue)
    }

    /// The backlog for an upstream, in all queues.
    pub fn for_upstream(&self, upstream: &str) -> Backlog {
        self.backlog(|lane| lane.upstream == upstream)
    }

    fn backlog(&self, counts: impl Fn(&LaneStatus) -> bool) -> Backlog {
        let counted = self.lanes.iter().filter(|lane| counts(lane));
        counted.fold(Backlog::default(), |sum, lane| sum.with(lane.backlog))
    }
}

/// The use of permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermitsInUse {
    /// Attempts that run.
    pub running: usize,
    /// How many may on this node.
    pub limit: usize,
}

/// One queue.
#[derive(Clone, Debug)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// The target of the queue.
    pub expected: QueueTarget,
    /// Running attempts of the queue on this node.
    pub permits: PermitsInUse,
    /// Running attempts of the queue on other nodes, as last reported.
    pub elsewhere: usize,
    /// Attempts that began in a second, on all nodes, in the last minute.
    pub started_per_second: f64,
    /// How many may run, where that was set.
    pub max_in_flight: Option<u32>,
    /// How many may begin in a time, where that was set.
    pub rate: Option<Rate>,
    /// How many may wait.
    pub max_depth: u32,
    /// How many octets may be stored for what has not ended.
    pub max_stored: u64,
    /// Whether nothing of it is begun.
    pub paused: bool,
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Running attempts to the upstream on this node.
    pub permits: PermitsInUse,
    /// Running attempts to the upstream on other nodes, as last reported.
    pub elsewhere: usize,
    /// How many may run, as it was set.
    pub max_in_flight: u32,
    /// How many may begin in a time, where that was set.
    pub rate: Option<Rate>,
    /// Whether it is called at all.
    pub breaker: BreakerPhase,
}
