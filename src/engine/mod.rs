//! Everything that carries operations out.
//!
//! Owns which operation runs when, its attempts, and that each attempt's end reaches the
//! ledger. Its invariants: no more runs than there are permits for, nothing is claimed
//! that is not begun, and what comes after an attempt is decided by
//! [`settle`](crate::domain::operation::settle) alone. It must not know of clients, the
//! front or configuration files: it meets the rest in the ledger.

mod allowance;
mod answer;
mod beats;
mod cancels;
mod desk;
mod dispatcher;
mod ending;
mod executor;
mod expiry;
mod follower;
mod gathering;
mod insist;
mod meters;
mod outgoing;
mod permits;
mod pruner;
mod recheck;
mod reconciler;
mod stash;
mod takeover;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::operation::Lane;
use crate::ledger::Ledger;
use crate::lifecycle::Tasks;
use crate::upstream::{Upstream, Upstreams};
use beats::Beats;
use cancels::Cancels;
use meters::Meters;
use permits::Permits;

/// How an engine works.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How many attempts may run at once on this node.
    pub slots: usize,
    /// The limits of each configured upstream, by its name.
    pub upstreams: HashMap<Arc<str>, UpstreamLimits>,
    /// Queues of which nothing is begun.
    pub paused: HashSet<Arc<str>>,
    /// What the URLs for progress reports begin with: absolute, with the gateway's prefix
    /// and no slash at its end, as `http://gw:8080/-`. Where there is none, upstreams are
    /// not told where to report.
    pub progress_base: Option<String>,
    /// How often the ledger is looked through for what does not add up; never where there
    /// is none.
    pub reconcile: Option<Duration>,
}

/// The limits of one upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// How many attempts may be in flight to it.
    pub max_in_flight: u32,
    /// The largest answer of it that is recorded, in octets.
    pub max_response: u64,
}

/// A running engine, as others look at it. It runs until the tasks drain, whether or not
/// anybody keeps this; it keeps the ledger open only that long.
#[derive(Clone, Debug)]
pub struct Engine {
    permits: Permits,
    beats: Arc<Beats>,
}

/// What all parts of the engine work with.
struct Shared {
    ledger: Ledger,
    upstreams: Upstreams,
    settings: Settings,
    clock: Clock,
    tasks: Tasks,
    permits: Permits,
    cancels: Cancels,
    meters: Meters,
    beats: Arc<Beats>,
    // Tells when the last part is gone.
    _over: DropGuard,
}

impl Engine {
    /// Starts carrying operations out: lends the ledger a desk, takes over what former
    /// incarnations held, and only then claims. The recorder of metrics has to be
    /// installed before.
    pub fn start(
        ledger: Ledger,
        upstreams: Upstreams,
        settings: Settings,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        let limits = settings.upstreams.iter().map(|(name, it)| (name, it.max_in_flight));
        let permits = Permits::new(settings.slots, limits);
        let meters = Meters::of(settings.upstreams.keys());
        let beats = Arc::new(Beats::starting(clock.now()));
        let cancels = Cancels::default();
        let over = CancellationToken::new();
        cancels.listen(ledger.cancels(), over.clone(), &tasks);
        let engine = Self { permits: permits.clone(), beats: Arc::clone(&beats) };
        let shared = Arc::new(Shared {
            ledger,
            upstreams,
            settings,
            clock,
            tasks,
            permits,
            cancels,
            meters,
            beats,
            _over: over.drop_guard(),
        });
        shared.ledger.lend_desk(Arc::new(desk::EngineDesk(Arc::downgrade(&shared))));
        shared.tasks.clone().spawn(begin(shared));
        engine
    }

    /// How many attempts run now.
    pub fn running(&self) -> usize {
        self.permits.taken()
    }

    /// The name of a loop whose last success is too old: the gateway is not ready.
    pub fn stalled(&self, now: Timestamp) -> Option<&'static str> {
        self.beats.stalled(now)
    }
}

async fn begin(shared: Arc<Shared>) {
    takeover::run(&shared).await;
    let tasks = shared.tasks.clone();
    tasks.spawn(dispatcher::run(Arc::clone(&shared)));
    tasks.spawn(follower::run(Arc::clone(&shared)));
    tasks.spawn(expiry::run(Arc::clone(&shared)));
    tasks.spawn(reconciler::run(Arc::clone(&shared)));
    tasks.spawn(pruner::run(shared));
}

impl Shared {
    fn is_paused(&self, lane: &Lane) -> bool {
        // Most gateways pause nothing: then the name is not hashed.
        !self.settings.paused.is_empty() && self.settings.paused.contains(&lane.queue)
    }

    /// Whether operations of the lane are begun at all.
    fn is_claimed(&self, lane: &Lane) -> bool {
        self.permits.knows(&lane.upstream) && !self.is_paused(lane)
    }

    /// An upstream with the largest answer of it that is recorded.
    fn upstream(&self, name: &str) -> Option<(&Upstream, u64)> {
        let limits = self.settings.upstreams.get(name)?;
        Some((self.upstreams.get(name)?, limits.max_response))
    }

    /// Waits that long; false if draining began first.
    async fn pause(&self, pause: std::time::Duration) -> bool {
        tokio::select! {
            biased;
            () = self.tasks.draining() => false,
            () = self.clock.sleep(pause) => true,
        }
    }
}
