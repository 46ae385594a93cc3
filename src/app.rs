//! The composition root: a configuration becomes a running gateway.
//!
//! Owns the order in which the parts begin and end. Nothing else knows all of them.

mod jobs;
mod queue_status;
mod receivers;
mod webhooks;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, ApiSettings, RetryEstimates, WebhookPayloads};
use crate::config::{
    Config, LocationForm, PoolerKind, PrincipalRule, QueueConfig, StoreConfig, StoreUrl,
    UpstreamConfig,
};
use crate::console::{self, ConsoleSettings};
use crate::engine::{self, Engine, NodeSettings, QueueLimits, UpstreamLimits};
pub use crate::front::Overlap;
use crate::front::{self, Front, FrontSettings, UnknownRoute};
pub use crate::listener::advice as bind_advice;
use crate::listener::{BindError, Listener, ListenerLimits};
use crate::open_files::{self, ConnectionLimits};
use crate::telemetry::{Metrics, metrics};
use crate::upstream::{Upstream, UpstreamSettings, UpstreamSettingsError, Upstreams};
use crate::webhooks::Webhooks;
use cloakroom_domain::Fields;
use cloakroom_domain::http::public_url::{PublicOrigin, PublicUrlProblem};
use cloakroom_domain::operation::Lane;
use cloakroom_domain::urgency::QueueTarget;
use cloakroom_ledger::{Ledger, Location, OpenError, Opening, Pooler, Retention, Server};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::{Tasks, Threads};
use receivers::Receivers;

/// How long a database may take to be there when the gateway starts: machines that start
/// together do not start at once.
const DATABASE_START: Duration = Duration::from_mins(1);
/// How long tasks may take to end after they are cut.
const CUT: Duration = Duration::from_secs(5);

/// How a gateway is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether pending migrations of the ledger are run; otherwise they are an error.
    pub migrate: bool,
}

/// A gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// An upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamSettingsError),
    /// The public URL cannot be used.
    #[error("server.public_url cannot be used: {0}")]
    PublicUrl(#[from] PublicUrlProblem),
    /// A route cannot be used.
    #[error(transparent)]
    Route(#[from] UnknownRoute),
}

/// A running gateway.
#[derive(Debug)]
pub struct App {
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    notes: Vec<String>,
    fatal: CancellationToken,
    grace: Duration,
    clock: Clock,
    parts: AppTasks,
    ledger: Ledger,
    /// Last: what runs on them ends with the gateway.
    _webhook_threads: Threads,
}

/// The task groups, which end one after the other: status endpoints outlive what they show.
#[derive(Clone, Debug, Default)]
struct AppTasks {
    /// Sends webhooks.
    webhooks: Tasks,
    /// Carries out.
    engine: Tasks,
    /// Answers clients.
    front: Tasks,
    /// Answers operators.
    admin: Tasks,
    /// All that the others stand on: the ledger, connections to upstreams.
    ground: Tasks,
}

/// What webhooks have to themselves, where this node sends any: half as many threads as there are
/// processors. An exchange with a receiver is short, and with few at once to each, what it waits
/// for others to make room is what it can carry.
fn webhook_threads(config: &Config) -> Threads {
    if !config.engine.role.works() {
        return Threads::none();
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Threads::start("webhooks", processors / 2)
}

impl App {
    /// Starts a gateway: binds, opens the ledger, begins to carry out, then answers.
    pub async fn start(config: Config, options: Options, clock: Clock) -> Result<Self, StartError> {
        check(&config)?;
        // Before anything is opened.
        let limit = open_files::raise();
        let connections = connection_limits(&config, limit);
        let threads = webhook_threads(&config);
        let parts = AppTasks { webhooks: Tasks::on(&threads), ..AppTasks::default() };
        let recorded = metrics();
        // Before the ledger: an address in use must leave no trace.
        let listener = match config.engine.role.answers() {
            true => Some(Listener::bind(config.server.listen, "--listen").await?),
            false => None,
        };
        let admin = match config.admin.listen {
            Some(address) => Some(Listener::bind(address, "--admin-listen").await?),
            None => None,
        };
        let public = public_origin(&config, listener.as_ref())?;
        let upstreams = upstreams(&config, &clock, &parts.ground)?;
        let opened = Ledger::open(opening(&config, options), &clock, &parts.ground);
        let ledger = Box::pin(opened).await?;
        // Before anything is carried out: what ends is told of as it ends.
        let messages = WebhookPayloads::new(&config.server.prefix, &public, ledger.ticket_key());
        ledger.lend_renderer(Arc::new(messages));
        let started = Self {
            public: listener.as_ref().map(Listener::local_address),
            admin: admin.as_ref().map(Listener::local_address),
            notes: unconfigured_lanes(&ledger, &upstreams)
                .into_iter()
                .chain(connection_note(&config, limit, connections))
                .collect(),
            fatal: ledger.fatal(),
            grace: config.shutdown.grace,
            clock: clock.clone(),
            parts: parts.clone(),
            ledger: ledger.clone(),
            _webhook_threads: threads,
        };
        let settings = engine_settings(&config, &public, &ledger);
        let engine = Engine::start(
            ledger.clone(),
            upstreams.clone(),
            settings,
            clock.clone(),
            parts.engine.clone(),
        );
        let listeners: Vec<_> = started.public.into_iter().chain(started.admin).collect();
        let receivers = Receivers::new(&config, &listeners, &ledger, &clock, &parts.ground);
        let settings = Arc::new(api_settings(&config, public));
        let api = Api {
            ledger,
            clock: clock.clone(),
            tasks: parts.front.clone(),
            settings,
            webhooks: Arc::new(receivers.clone().settings(&config)),
        };
        let sender = receivers.sender();
        let webhooks =
            webhooks::start(&config, sender, &api.ledger, &engine, &clock, &parts.webhooks);
        let lifecycles =
            front::Lifecycles { own: parts.front.clone(), engine: parts.engine.clone() };
        let front = FrontSettings::from_config(&config, api.clone(), &upstreams, lifecycles);
        let front = match front {
            Ok(front) => Front::new(front),
            Err(error) => {
                parts.webhooks.cut();
                parts.engine.cut();
                parts.ground.cut();
                return Err(error.into());
            }
        };
        let limits = ListenerLimits::from(&config.server);
        let of = |connections| ListenerLimits { max_connections: connections, ..limits.clone() };
        if let Some(admin) = admin {
            let works = (engine, webhooks);
            let settings = console_settings(&config, &api, works, &parts.engine, recorded.clone());
            let (service, tasks) = (console::service(settings), parts.admin.clone());
            parts.admin.spawn(admin.serve(service, of(connections.admin), clock.clone(), tasks));
        }
        let upkeep = until_drained(recorded.upkeep(clock.clone()), parts.ground.clone());
        parts.ground.spawn_until_cut(upkeep);
        if let Some(listener) = listener {
            let limits = of(connections.public);
            let tasks = parts.front.clone();
            parts.front.spawn(listener.serve(front.service(), limits, clock, tasks));
        }
        Ok(started)
    }

    /// Where clients are listened to, if anywhere; the port is never 0.
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.public
    }

    /// Where operators are listened to, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Notes for the operator who starts it.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Completes when the ledger could not be made durable: the process has to end.
    pub async fn failed(&self) {
        self.fatal.cancelled().await;
    }

    /// Begins nothing new, lets what runs finish within the grace, and closes the ledger.
    ///
    /// Clients are answered as long as something runs, so that they see how it ends, and
    /// operators until all else has ended, so that `readyz` says no instead of nothing.
    pub async fn stop(self) {
        let Self { parts, clock, grace, ledger, .. } = self;
        let until = clock.now() + grace;
        let mut all = true;
        // What is being sent is settled before the engine takes leave of the other nodes.
        parts.engine.drain();
        // The front may hand over one last operation while the engine is about to end.
        for part in [&parts.webhooks, &parts.engine, &parts.front, &parts.engine] {
            part.drain();
            all &= part.ended(&clock, until.since(clock.now()), CUT).await;
        }
        leave_again(ledger, &clock).await;
        for part in [&parts.admin, &parts.ground] {
            part.drain();
            all &= part.ended(&clock, CUT, CUT).await;
        }
        if !all {
            tracing::error!("some tasks did not end in time and were cut");
        }
    }
}

/// Reports what clients have added since the engine left the cluster.
async fn leave_again(ledger: Ledger, clock: &Clock) {
    if !ledger.has_more_to_leave() {
        return;
    }
    if let Ok(Err(error)) = clock.timeout(CUT, ledger.leave(Vec::new(), clock.now())).await {
        tracing::debug!(%error, "the last counts could not be reported");
    }
}

/// What links are built on. A node that answers no clients knows only what it was told.
fn public_origin(
    config: &Config,
    listener: Option<&Listener>,
) -> Result<PublicOrigin, PublicUrlProblem> {
    let public_url = config.server.public_url.as_ref().map(url::Url::as_str);
    match (public_url, listener) {
        (None, None) => Ok(PublicOrigin::PerRequest),
        (_, listener) => {
            let address = listener.map_or(config.server.listen, Listener::local_address);
            PublicOrigin::resolve(public_url, address)
        }
    }
}

/// Files that a node has open beside its connections and its ledger's: logs, libraries, what
/// it watches sockets with.
const OWN_FILES: u64 = 64;
/// What one connection to a file of SQLite keeps open.
const FILES_OF_SQLITE: u64 = 4;

/// How many connections the limit of open files leaves room for.
fn connection_limits(config: &Config, limit: Option<u64>) -> ConnectionLimits {
    let store = match &config.store.url {
        StoreUrl::Sqlite(_) => (u64::from(config.store.readers) + 2) * FILES_OF_SQLITE,
        StoreUrl::Postgres(_) => u64::from(config.store.pool) + 2,
    };
    let work = match config.engine.role.works() {
        // Twice as many deliveries as there are slots for go on beside those.
        true => config.engine.slots + 3 * config.webhooks.slots,
        false => 0,
    };
    open_files::connection_limits(
        limit,
        OWN_FILES + store + work as u64,
        config.server.max_connections,
    )
}

/// Says that fewer connections are taken than are configured.
fn connection_note(
    config: &Config,
    limit: Option<u64>,
    connections: ConnectionLimits,
) -> Option<String> {
    let (wanted, limit) = (config.server.max_connections?, limit?);
    let taken =
        connections.public.filter(|taken| *taken < wanted && config.engine.role.answers())?;
    Some(format!(
        "server.max_connections is {wanted}, but the limit of open files ({limit}) leaves room for \
         {taken} connections of clients, so no more are taken at once; raise it (LimitNOFILE= in a \
         systemd unit, ulimit -n in a shell, --ulimit nofile=N for a container)"
    ))
}

async fn until_drained(work: impl Future<Output = ()>, tasks: Tasks) {
    tokio::select! {
        () = work => {}
        () = tasks.draining() => {}
    }
}

fn upstreams(
    config: &Config,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<Upstreams, UpstreamSettingsError> {
    let upstream = |settings| Upstream::new(settings, clock.clone(), tasks);
    upstream_settings(config).map(upstream).collect()
}

fn upstream_settings(config: &Config) -> impl Iterator<Item = UpstreamSettings> {
    config.upstreams.iter().map(|(name, upstream)| {
        let mut headers = Fields::new();
        for (field, value) in &upstream.headers {
            headers.as_map_mut().append(field.clone(), value.clone());
        }
        UpstreamSettings {
            name: name.as_str().into(),
            origin: upstream.url.clone(),
            preserve_host: upstream.preserve_host,
            headers,
            follow: upstream.follow.iter().map(url::Origin::ascii_serialization).collect(),
            job_words: upstream.monitor.clone(),
            connect_timeout: upstream.connect_timeout,
            response_timeout: upstream.response_timeout,
            max_response: upstream.max_response as u64,
            max_response_headers: upstream.max_response_headers,
            reuse: upstream.reuse,
            header_case: upstream.header_case,
            unprocessed: upstream.unprocessed.clone(),
        }
    })
}

/// Whether a gateway can be started with this configuration, as far as nothing has to be opened
/// for that; what there is to know about its routes.
pub fn check(config: &Config) -> Result<Vec<Overlap>, StartError> {
    public_origin(config, None)?;
    for settings in upstream_settings(config) {
        settings.is_usable()?;
    }
    Ok(front::check_routes(config)?)
}

fn opening(config: &Config, options: Options) -> Opening {
    let lane = |queue: &str, upstream: &str, express| Lane {
        queue: queue.into(),
        upstream: upstream.into(),
        express,
        quarantine: false,
    };
    let pairs = config.queues.keys().flat_map(|q| config.upstreams.keys().map(move |u| (q, u)));
    let lanes = pairs.flat_map(|(q, u)| [false, true].map(|express| lane(q, u, express)));
    let own = lane(jobs::QUEUE, engine::OWN, false);
    Opening {
        location: location(&config.store),
        migrate: options.migrate,
        retention: Retention {
            result: config.retention.result,
            operation: config.retention.operation,
        },
        lanes: lanes.chain([own]).collect(),
        keyring: config.secrets.keyring(),
    }
}

/// What a configuration says lies before the database.
pub(crate) const fn pooler(store: &StoreConfig) -> Pooler {
    match store.pooler {
        PoolerKind::None => Pooler::None,
        PoolerKind::Transaction => Pooler::Transaction,
    }
}

/// Where a configuration puts the ledger.
pub(crate) fn location(store: &StoreConfig) -> Location {
    match &store.url {
        StoreUrl::Sqlite(path) => Location::Sqlite { path: path.clone(), readers: store.readers },
        StoreUrl::Postgres(url) => Location::Postgres(Server {
            url: url.clone(),
            direct_url: store.direct_url.clone(),
            pooler: pooler(store),
            pool: store.pool,
            patience: DATABASE_START,
        }),
    }
}

/// Says what lies in the ledger for upstreams that are no longer configured.
fn unconfigured_lanes(ledger: &Ledger, upstreams: &Upstreams) -> Vec<String> {
    let gone =
        |lane: &Lane| &*lane.upstream != engine::OWN && upstreams.get(&lane.upstream).is_none();
    let lanes = ledger.lanes().into_iter().filter(|row| row.depth > 0 && gone(&row.lane));
    lanes
        .map(|row| {
            let (depth, upstream) = (row.depth, row.lane.upstream);
            format!(
                "{depth} operations wait for the upstream {upstream}, which is not configured: they stay \
                 until it is again, or until their deadline"
            )
        })
        .collect()
}

fn engine_settings(
    config: &Config,
    public: &PublicOrigin,
    ledger: &Ledger,
) -> engine::EngineSettings {
    let internal = config.server.internal_url.as_ref().map(url::Url::as_str);
    let base = internal.or_else(|| public.lasting()).map(|base| base.trim_end_matches('/'));
    let limits = |upstream: &UpstreamConfig| UpstreamLimits {
        max_in_flight: upstream.max_in_flight,
        rate: upstream.rate,
        max_response: upstream.max_response as u64,
    };
    let expected = |queue: &QueueConfig| QueueLimits {
        expected: QueueTarget { priority: queue.priority, target_wait: queue.target_wait },
        max_in_flight: queue.max_in_flight,
        rate: queue.rate,
    };
    engine::EngineSettings {
        slots: config.engine.slots,
        max_share: config.engine.max_share,
        first_attempts: config.engine.first_attempts,
        queues: config.queues.iter().map(|(name, q)| (name.as_str().into(), expected(q))).collect(),
        upstreams: config
            .upstreams
            .iter()
            .map(|(name, u)| (name.as_str().into(), limits(u)))
            .collect(),
        paused: paused(config),
        works_on: config.engine.queues.iter().map(|name| name.as_str().into()).collect(),
        node: NodeSettings {
            name: config.engine.node_name(),
            role: config.engine.role,
            fingerprint: config.fingerprint(),
            lease: config.store.lease,
        },
        reconcile: config.engine.reconcile,
        jobs: jobs::jobs(ledger),
        progress_base: base.map(|base| format!("{base}{}", config.server.prefix)),
        public: public.lasting().and_then(|base| base.parse().ok()),
        prefix: config.server.prefix.clone(),
        unfollowed: unfollowed(config),
    }
}

fn unfollowed(config: &Config) -> HashSet<Arc<str>> {
    let routes = config.routes.iter().filter(|route| !route.follow);
    routes.map(|route| route.name.as_str().into()).collect()
}

fn paused(config: &Config) -> HashSet<Arc<str>> {
    config
        .queues
        .iter()
        .filter(|(_, queue)| queue.paused)
        .map(|(name, _)| name.as_str().into())
        .collect()
}

fn api_settings(config: &Config, public: PublicOrigin) -> ApiSettings {
    let foreign = config.routes.iter().map(|route| (route.name.clone(), route.foreign_location));
    let relative = config.routes.iter().filter(|route| route.location == LocationForm::Relative);
    ApiSettings {
        prefix: config.server.prefix.clone(),
        public,
        trusted_proxies: config.server.trusted_proxies.clone(),
        principal: config.auth.principal.clone(),
        shared: config.auth.shared || config.auth.principal != PrincipalRule::None,
        foreign_location: foreign.collect::<HashMap<_, _>>(),
        relative_location: relative.map(|route| route.name.clone()).collect(),
        pace: RetryEstimates::default(),
    }
}

fn console_settings(
    config: &Config,
    api: &Api,
    (engine, webhooks): (Engine, Option<Webhooks>),
    tasks: &Tasks,
    metrics: Metrics,
) -> ConsoleSettings {
    let look = queue_status::look(config, api, engine.clone());
    let (clock, tasks) = (api.clock.clone(), tasks.clone());
    let ready = move || {
        if tasks.is_draining() {
            return Err("draining: the gateway is stopping".to_owned());
        }
        let now = clock.now();
        let webhooks = webhooks.as_ref().and_then(|webhooks| webhooks.stalled(now));
        match engine.stalled(now).or(webhooks) {
            Some(part) => Err(format!("the {part} loop is stuck")),
            None => Ok(()),
        }
    };
    ConsoleSettings {
        hosts: config.admin.hosts.clone(),
        prefix: config.server.prefix.clone(),
        operators: api::operators_router(api.clone(), look.clone()),
        ready: Arc::new(ready),
        look,
        metrics,
    }
}

/// The description of the HTTP API.
pub fn openapi() -> &'static str {
    api::openapi::document()
}

/// The same of a gateway with this configuration.
pub fn openapi_of(config: &Config) -> String {
    api::openapi::configured_document(config)
}
