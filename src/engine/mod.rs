//! The engine: carries operations out.
//!
//! Owns which operation runs when, its attempts, and that the result of each attempt reaches the
//! ledger. Its invariants: no more attempts run than there are permits; every claimed operation is
//! started; and [`settle`](cloakroom_domain::operation::settle) alone decides what follows an attempt.
//! It must not know of clients, the front or configuration files: it meets the rest in the ledger.

mod attempt_timeout;
mod body_chunker;
mod body_writer;
mod cancels;
mod delays;
mod dispatcher;
mod executor;
mod expiry;
mod follower;
mod handoff;
mod heartbeat;
mod in_flight;
mod jobs;
mod ledger_write;
mod limit_leases;
mod limits;
mod loops;
mod metrics;
mod monitor_slots;
mod node_lease;
mod permits;
mod pruner;
mod quarantine;
mod rate_limiter;
mod recheck;
mod reconciler;
mod request;
mod rescuer;
mod response;
mod settle;
mod slot_pool;
mod upstream_breaker;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use crate::upstream::{Upstream, Upstreams};
use cancels::CancelRegistry;
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker;
use cloakroom_domain::fleet::Role;
use cloakroom_domain::http::forwarded;
use cloakroom_domain::limit::Rate;
use cloakroom_domain::operation::{Lane, Request, Work};
use cloakroom_domain::urgency::QueueTarget;
use cloakroom_ledger::{Emptied, Leased, Ledger};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;
use cloakroom_runtime::{LogThrottle, LoopHealth};
use in_flight::InFlightLeases;
pub use jobs::{Job, JobStep, JobStepResult, Jobs, OWN};
use loops::EngineLoop;
use metrics::EngineMetrics;
use node_lease::NodeLease;
pub use permits::LimitUsage;
use permits::Permits;
use slot_pool::SlotPool;

/// How many attempts, for each slot, wait without one to ask their upstream again.
const PATIENT: usize = 4;

/// The settings of an engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// How many attempts may run at once on this node.
    pub slots: usize,
    /// The largest share of them that one upstream gets where there are several, in
    /// percent.
    pub max_share: u8,
    /// The share of them that is kept for first attempts, in percent.
    pub first_attempts: u8,
    /// The limits of each configured upstream, by its name.
    pub upstreams: HashMap<Arc<str>, UpstreamLimits>,
    /// The limits of each configured queue, by its name.
    pub queues: HashMap<Arc<str>, QueueLimits>,
    /// Paused queues.
    pub paused: HashSet<Arc<str>>,
    /// The queues that this node works on; empty: every one.
    pub works_on: BTreeSet<Arc<str>>,
    /// The settings of this node in the cluster.
    pub node: NodeSettings,
    /// The gateway's own jobs that it can do.
    pub jobs: Jobs,
    /// What the URLs for progress reports begin with: absolute, with the gateway's prefix
    /// and no slash at its end, as `http://gw:8080/-`. Where there is none, upstreams are
    /// not told where to report.
    pub progress_base: Option<String>,
    /// What the gateway is called from outside, where that is known.
    pub public: Option<Url>,
    /// The path under which the gateway answers itself.
    pub prefix: String,
    /// The routes of which a 202 is the end, whatever monitor it names.
    pub unfollowed: HashSet<Arc<str>>,
    /// How often the ledger is checked and repaired; none: never.
    pub reconcile: Option<Duration>,
}

/// One slot, and the default shares.
impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            slots: 1,
            max_share: 50,
            first_attempts: 20,
            upstreams: HashMap::new(),
            queues: HashMap::new(),
            paused: HashSet::new(),
            works_on: BTreeSet::new(),
            node: NodeSettings {
                name: String::new(),
                role: Role::Both,
                fingerprint: String::new(),
                lease: Duration::from_secs(15),
            },
            reconcile: None,
            jobs: Jobs::default(),
            progress_base: None,
            public: None,
            prefix: "/-".to_owned(),
            unfollowed: HashSet::new(),
        }
    }
}

/// The settings of a node in the cluster.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its name for people.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The fingerprint of its configuration.
    pub fingerprint: String,
    /// How long its heartbeat may be missing before other nodes take its work over.
    pub lease: Duration,
}

/// The limits of one upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// How many attempts may be in flight to it.
    pub max_in_flight: u32,
    /// How many attempts may begin in a time, if that is limited.
    pub rate: Option<Rate>,
    /// The largest answer of it that is recorded, in octets.
    pub max_response: u64,
}

/// The limits of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueLimits {
    /// Its priority and the wait it aims at.
    pub expected: QueueTarget,
    /// How many attempts of it may run, if that is limited.
    pub max_in_flight: Option<u32>,
    /// How many attempts may begin in a time, if that is limited.
    pub rate: Option<Rate>,
}

/// A handle on the running engine. The engine runs until the tasks drain, also without a
/// handle; a handle does not keep the ledger open.
#[derive(Clone, Debug)]
pub struct Engine {
    permits: Permits,
    loop_health: Arc<LoopHealth<EngineLoop>>,
    node_lease: NodeLease,
    in_flight: InFlightLeases,
}

/// Keeps this node in the cluster while another part still works with leases of it.
#[derive(Debug)]
pub struct LeaveGuard(
    #[expect(dead_code, reason = "it is kept, and dropped")] in_flight::PendingClaim,
);

/// What all parts of the engine share.
struct EngineContext {
    ledger: Ledger,
    upstreams: Upstreams,
    settings: EngineSettings,
    clock: Clock,
    tasks: Tasks,
    permits: Permits,
    /// The places of attempts that hold no slot while they wait to ask their upstream again.
    patient: Arc<SlotPool>,
    cancels: CancelRegistry,
    in_flight: InFlightLeases,
    node_lease: NodeLease,
    metrics: EngineMetrics,
    loop_health: Arc<LoopHealth<EngineLoop>>,
    /// The throttle of warnings about monitors.
    monitor_warnings: LogThrottle,
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
        settings: EngineSettings,
        clock: Clock,
        tasks: Tasks,
    ) -> Self {
        ledger.lend_tasks(settings.jobs.names());
        let permits = Permits::new(&settings, ledger.is_shared(), clock.now());
        permits.withhold_rates();
        let metrics = EngineMetrics::of(settings.upstreams.keys(), settings.queues.keys());
        let works = settings.node.role.works();
        let loop_health = Arc::new(LoopHealth::starting(clock.now()));
        if !works {
            loop_health.ignore(EngineLoop::Dispatcher);
            loop_health.ignore(EngineLoop::Follower);
        }
        let cancels = CancelRegistry::default();
        let over = CancellationToken::new();
        cancels.listen(ledger.cancels(), over.clone(), &tasks);
        let node_lease = NodeLease::starting(&clock, settings.node.lease, ledger.is_shared());
        let in_flight = InFlightLeases::default();
        let patient = SlotPool::of(settings.slots * PATIENT);
        let handle = Self {
            permits: permits.clone(),
            loop_health: Arc::clone(&loop_health),
            node_lease: node_lease.clone(),
            in_flight: in_flight.clone(),
        };
        let engine = Arc::new(EngineContext {
            ledger,
            upstreams,
            settings,
            clock,
            tasks,
            permits,
            patient,
            cancels,
            in_flight,
            node_lease,
            metrics,
            loop_health,
            monitor_warnings: LogThrottle::default(),
            _over: over.drop_guard(),
        });
        if works {
            engine.ledger.lend_desk(Arc::new(handoff::EngineSlotProvider(Arc::downgrade(&engine))));
        }
        engine.tasks.clone().spawn(begin(engine));
        handle
    }

    /// How many attempts run now.
    pub fn running(&self) -> usize {
        self.permits.taken()
    }

    /// How much of a configured queue's limit is in use on this node.
    pub fn queue(&self, name: &str) -> Option<LimitUsage> {
        self.permits.of_queue(name)
    }

    /// How much of a configured upstream's limit is in use on this node, and how its
    /// breaker stands.
    pub fn upstream(&self, name: &str) -> Option<(LimitUsage, breaker::BreakerPhase)> {
        self.permits.of_upstream(name)
    }

    /// Whether this node may begin anything at present: where others share the ledger, its
    /// beats have been confirmed lately.
    pub fn may_begin(&self) -> bool {
        self.node_lease.may_begin()
    }

    /// Keeps this node in the cluster until the guard is dropped.
    pub fn delay_leave(&self) -> LeaveGuard {
        LeaveGuard(self.in_flight.begin_claim())
    }

    /// The name of a stuck loop: the gateway is not ready.
    pub fn stalled(&self, now: Timestamp) -> Option<&'static str> {
        if !self.node_lease.may_begin() {
            return Some("beat");
        }
        self.loop_health.stuck(now)
    }
}

async fn begin(engine: Arc<EngineContext>) {
    rescuer::start(&engine).await;
    resume_rates(&engine).await;
    let tasks = engine.tasks.clone();
    let (found, to_see_to) = tokio::sync::watch::channel(heartbeat::HeartbeatReport::default());
    if engine.settings.node.role.works() && engine.ledger.is_shared() {
        tasks.spawn(limit_leases::run(Arc::clone(&engine), found.subscribe()));
    }
    let deaths = found.subscribe();
    tasks.spawn(heartbeat::run(Arc::clone(&engine), found));
    tasks.spawn(rescuer::run(Arc::clone(&engine), to_see_to));
    if engine.settings.node.role.works() {
        tasks.spawn(dispatcher::run(Arc::clone(&engine)));
        tasks.spawn(follower::run(Arc::clone(&engine)));
        tasks.spawn(quarantine::run(Arc::clone(&engine)));
    }
    tasks.spawn(expiry::run(Arc::clone(&engine)));
    tasks.spawn(delays::run(Arc::clone(&engine)));
    tasks.spawn(reconciler::run(Arc::clone(&engine)));
    tasks.spawn(reconciler::after_deaths(Arc::clone(&engine), deaths));
    tasks.spawn(pruner::run(engine));
}

/// Goes on with rates where former starts ended; where that cannot be read, as if they had
/// been used up.
async fn resume_rates(engine: &EngineContext) {
    let now = engine.clock.now();
    let emptied = engine.ledger.emptied(now).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the state of the rates could not be read; they start empty");
        Emptied::unknown(now)
    });
    engine.permits.resume_rates(&emptied, now);
}

impl EngineContext {
    /// Whether the clock has made a step within the last lease: until that has proved to be right,
    /// nothing expires and nothing is freed by it.
    fn is_unsure_of_time(&self) -> bool {
        self.clock.has_stepped_within(self.settings.node.lease)
    }

    fn is_paused(&self, lane: &Lane) -> bool {
        // Most gateways pause nothing: then the name is not hashed.
        (!self.settings.paused.is_empty() && self.settings.paused.contains(&lane.queue))
            || self.ledger.is_paused(&lane.queue)
    }

    /// What may be expected of a queue.
    fn expected(&self, queue: &str) -> QueueTarget {
        self.settings.queues.get(queue).map(|queue| queue.expected).unwrap_or_default()
    }

    /// Whether this node starts operations of the lane, in quarantine or not.
    fn is_served(&self, lane: &Lane) -> bool {
        let queues = &self.settings.works_on;
        let works = self.settings.node.role.works();
        let given = queues.is_empty() || queues.contains(&lane.queue);
        works && given && self.permits.knows(&lane.upstream) && !self.is_paused(lane)
    }

    /// Whether this node claims operations of the lane outside quarantine.
    fn is_claimed(&self, lane: &Lane) -> bool {
        !lane.quarantine && self.is_served(lane)
    }

    /// Whether this node can run the operation: it knows the upstream or the job.
    fn can_do(&self, leased: &Leased) -> bool {
        match &leased.work {
            Work::Call(_) => self.upstream(&leased.lane.upstream).is_some(),
            Work::Task { name, .. } => self.settings.jobs.has(name),
        }
    }

    /// An upstream with the largest answer of it that is recorded.
    fn upstream(&self, name: &str) -> Option<(&Upstream, u64)> {
        let limits = self.settings.upstreams.get(name)?;
        Some((self.upstreams.get(name)?, limits.max_response))
    }

    /// What an upstream may call the gateway in its answer to this request.
    fn public(&self, upstream: &Upstream, request: &Request) -> Vec<Url> {
        let (fields, public) = (request.fields.as_map(), self.settings.public.as_ref());
        let told = forwarded::told(fields).map(|mut told| {
            // The public URL's path stands before what a proxy in front names, too.
            told.set_path(public.map_or("", Url::path));
            told
        });
        let called = upstream.settings().called(fields);
        public.cloned().into_iter().chain(told).chain(called).collect()
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
