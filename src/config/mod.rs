//! The configuration: every setting, read once and checked as a whole.
//!
//! Owns the settings' names, defaults and bounds, and is the only reader of the
//! environment. Its invariant: a [`Config`] that exists is complete and consistent. It
//! must not know who uses a setting, and imports nothing of the crate but the domain's
//! words.
//!
//! A value comes from a flag, else from the environment, else from the TOML file, else
//! from its default. The variable of a setting is `CLOAKROOM_` and its dotted name in
//! capitals, everything but letters and digits turned into `_`: `server.max_body` is
//! `CLOAKROOM_SERVER_MAX_BODY`, and `upstreams.my-orders.url` is
//! `CLOAKROOM_UPSTREAMS_MY_ORDERS_URL`. In a variable, commas separate the items of a
//! list, and an empty variable counts as unset. Routes and the fields that upstreams get
//! have no variables. An unknown variable is an error, except those that Kubernetes sets
//! by itself beside a Service called `cloakroom`.

mod admin;
mod auth;
mod cors;
mod engine;
mod enums;
mod fingerprint;
mod ineffective;
mod listen_command;
mod log;
mod pattern;
mod queues;
mod ranges;
mod raw_value;
mod reader;
mod retention;
mod routes;
mod secrets;
mod selector;
mod self_reference;
mod server;
mod setting;
mod shutdown;
mod store;
mod units;
mod upstreams;
mod urls;
mod webhooks;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use admin::AdminConfig;
pub use auth::{AuthConfig, PrincipalRule};
pub use cors::{CorsConfig, CorsOrigins};
pub use engine::EngineConfig;
pub use enums::{
    AcceptedForm, Allow, CallbackAllowlist, DeliveryGuarantee, LocationForm, Mode, OnFailure,
    Recheck, Role,
};
pub use listen_command::listen_secrets;
pub use log::{LogConfig, LogFormat, directives as log_directives};
pub use queues::QueueConfig;
pub use ranges::{covers_link_local, widest};
pub use raw_value::SettingSource;
pub use retention::RetentionConfig;
pub use routes::{RetryConfig, RouteConfig};
pub use secrets::SecretsConfig;
pub use selector::{KeyRule, Selector};
pub use server::ServerConfig;
pub use shutdown::ShutdownConfig;
pub use store::{PoolerKind, StoreConfig, StoreUrl};
pub use upstreams::UpstreamConfig;
pub use webhooks::WebhooksConfig;

use cloakroom_domain::webhooks::DestinationRules;
use reader::ConfigReader;

/// Every setting, resolved and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The public listener.
    pub server: ServerConfig,
    /// The operators' listener.
    pub admin: AdminConfig,
    /// The principal of a request.
    pub auth: AuthConfig,
    /// Pages of which origins may use the gateway.
    pub cors: CorsConfig,
    /// Where the ledger lives.
    pub store: StoreConfig,
    /// How much this node carries out at once.
    pub engine: EngineConfig,
    /// How the process ends.
    pub shutdown: ShutdownConfig,
    /// The services behind the gateway, by name; at least one unless
    /// [`Overrides::upstream_optional`].
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// Where unrouted requests go: the upstream called `default`, else the only one. None
    /// where there are several and none has that name.
    pub fallback_upstream: Option<String>,
    /// Where operations wait, by name; always with `default`.
    pub queues: BTreeMap<String, QueueConfig>,
    /// The routes, those of the file first.
    pub routes: Vec<RouteConfig>,
    /// Where deliveries may go, and how many go at once.
    pub webhooks: WebhooksConfig,
    /// The keys that seal stored secrets.
    pub secrets: SecretsConfig,
    /// How long things last.
    pub retention: RetentionConfig,
    /// The log.
    pub log: LogConfig,
    /// Settings that are valid but probably not meant.
    pub doubts: Vec<ConfigFault>,
}

/// Settings from flags of the command line; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--listen`: `server.listen`.
    pub listen: Option<String>,
    /// `--admin-listen`: `admin.listen`.
    pub admin_listen: Option<String>,
    /// `--store`: `store.url`.
    pub store: Option<String>,
    /// `--public-url`: `server.public_url`.
    pub public_url: Option<String>,
    /// `--upstream`: `upstreams.default.url`.
    pub upstream: Option<String>,
    /// `--async`: one plain route each, besides those of the file.
    pub async_routes: Vec<String>,
    /// `--shared`: `auth.shared`.
    pub shared: bool,
    /// `--role`, or the command itself: `engine.role`.
    pub role: Option<String>,
    /// `--queues`: `engine.queues`, with commas between.
    pub queues: Option<String>,
    /// `--slots`: `engine.slots`.
    pub slots: Option<String>,
    /// `--name`: `engine.name`.
    pub name: Option<String>,
    /// For commands that call no upstream (migrating, asking a running gateway): having
    /// none is no fault.
    pub upstream_optional: bool,
}

/// A configuration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedConfig {
    /// The settings.
    pub config: Config,
    /// Each setting as text, in the order of the sections. Field values that stand in the
    /// file are not in it.
    pub sources: Vec<SettingRow>,
}

/// One setting, as `config print` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    /// The dotted name.
    pub key: String,
    /// The value as one would write it.
    pub value: String,
    /// Where it came from.
    pub source: SettingSource,
}

/// One thing that is wrong: where, which setting, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The dotted name; empty where the fault is not about a setting.
    pub key: String,
    /// Where it stands.
    pub source: SettingSource,
    /// The fault, and the right value.
    pub says: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source != SettingSource::Default {
            write!(f, "{}: ", self.source)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.says)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {why}; name another with --config", path.display())]
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// The error of the system.
        #[source]
        why: io::Error,
    },
    /// It can be read, but not used: everything that is wrong with it.
    #[error("the configuration cannot be used:{}", lines(.0))]
    Faulty(Vec<ConfigFault>),
}

fn lines(faults: &[ConfigFault]) -> String {
    faults.iter().flat_map(|fault| ["\n  ".to_owned(), fault.to_string()]).collect()
}

/// The environment of this process, for [`Config::load`].
pub fn environment() -> impl Iterator<Item = (String, String)> {
    // What is not Unicode is no valid value of any setting, and is refused as one.
    let text = |octets: std::ffi::OsString| octets.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

impl Config {
    /// The rules for URLs that deliveries may go to.
    pub fn destination_rules(&self) -> DestinationRules {
        DestinationRules {
            allow: self.webhooks.allow.clone(),
            allow_http: self.webhooks.allow_http,
            ports: self.webhooks.ports.clone(),
            public_url: self.server.public_url.clone(),
        }
    }

    /// Reads the configuration from all its sources.
    ///
    /// Either everything is right, or the error names everything that is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        overrides: Overrides,
    ) -> Result<LoadedConfig, ConfigError> {
        let Some(path) = file else { return read("", "", environment, overrides) };
        let text = std::fs::read_to_string(path)
            .map_err(|why| ConfigError::Unreadable { path: path.to_owned(), why })?;
        read(&path.to_string_lossy(), &text, environment, overrides)
    }

    /// Reads the configuration from a text alone: no environment, no flags.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let loaded = read("cloakroom.toml", text, std::iter::empty(), Overrides::default())?;
        Ok(loaded.config)
    }
}

fn read(
    path: &str,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
    overrides: Overrides,
) -> Result<LoadedConfig, ConfigError> {
    let file = raw_value::parse(&Arc::from(path), text).map_err(ConfigError::Faulty)?;
    let mut reading = ConfigReader::new(file, environment);
    let shared = overrides.shared.then(|| "true".to_owned());
    reading.flag("server.listen", "--listen", overrides.listen);
    reading.flag("admin.listen", "--admin-listen", overrides.admin_listen);
    reading.flag("store.url", "--store", overrides.store);
    reading.flag("server.public_url", "--public-url", overrides.public_url);
    reading.flag("upstreams.default.url", "--upstream", overrides.upstream);
    reading.flag("auth.shared", "--shared", shared);
    reading.flag("engine.role", "--role", overrides.role);
    reading.flag("engine.queues", "--queues", overrides.queues);
    reading.flag("engine.slots", "--slots", overrides.slots);
    reading.flag("engine.name", "--name", overrides.name);
    let config = sections(&mut reading, overrides.async_routes, overrides.upstream_optional);
    let sources = reading.finish().map_err(ConfigError::Faulty)?;
    Ok(LoadedConfig { config, sources })
}

fn sections(
    reading: &mut ConfigReader,
    async_routes: Vec<String>,
    upstream_optional: bool,
) -> Config {
    let server = reading.section("server", ServerConfig::read);
    let admin = reading.section("admin", AdminConfig::read);
    check_listeners(reading, server.listen, admin.listen);
    let auth =
        reading.section("auth", |section| AuthConfig::read(section, &server.trusted_proxies));
    if let PrincipalRule::Header(name) = &auth.principal {
        check_trust(reading, name, &server.trusted_proxies);
    }
    let cors = reading.section("cors", CorsConfig::read);
    let store = reading.section("store", StoreConfig::read);
    let engine = reading.section("engine", EngineConfig::read);
    let shutdown = reading.section("shutdown", ShutdownConfig::read);
    let webhooks = reading.section("webhooks", WebhooksConfig::read);
    let secrets = reading.section("secrets", SecretsConfig::read);
    let retention = reading.section("retention", RetentionConfig::read);
    let log = reading.section("log", LogConfig::read);
    let upstreams = upstreams::read(reading);
    if upstreams.is_empty() && !upstream_optional {
        let says = "there is no service to stand in front of; pass --upstream \
                    http://localhost:9000, or add [upstreams.NAME] with its url";
        reading.fault("upstreams", SettingSource::Default, says);
    }
    let queues = queues::read(reading);
    check_node(reading, &engine, &store, &queues);
    let urls = upstreams.iter().filter_map(|(name, found)| Some((name, &found.as_ref()?.url)));
    self_reference::check(reading, (&server, &admin, &engine), urls);
    let fallback = fallback(&upstreams);
    let around = routes::RouteContext {
        upstreams: upstreams.keys().map(String::as_str).collect(),
        fallback: fallback.as_deref(),
        queues: queues.keys().map(String::as_str).collect(),
        prefix: (!server.prefix_pass).then_some(&*server.prefix),
    };
    let routes = routes::read(reading, async_routes, &around);
    let upstreams = upstreams.into_iter().filter_map(|(name, found)| Some((name, found?)));
    let mut config = Config {
        server,
        admin,
        auth,
        cors,
        store,
        engine,
        shutdown,
        upstreams: upstreams.collect(),
        fallback_upstream: fallback,
        queues,
        routes,
        webhooks,
        secrets,
        retention,
        log,
        doubts: Vec::new(),
    };
    ineffective::check(reading, &config);
    config.doubts = reading.take_doubts();
    config
}

fn fallback<T>(upstreams: &BTreeMap<String, T>) -> Option<String> {
    let mut names = upstreams.keys();
    let chosen = match (upstreams.contains_key(upstreams::DEFAULT), upstreams.len()) {
        (true, _) => Some(upstreams::DEFAULT),
        (false, 1) => names.next().map(String::as_str),
        _ => None,
    };
    chosen.map(str::to_owned)
}

/// A node of a fleet shares a database with the others, and works on queues that are there.
fn check_node(
    reading: &mut ConfigReader,
    engine: &EngineConfig,
    store: &StoreConfig,
    queues: &BTreeMap<String, QueueConfig>,
) {
    if engine.role != Role::Both && store.url.path().is_some() {
        let says = "a fleet needs PostgreSQL: a SQLite file has one gateway, which does everything; \
                    set store.url to postgres://USER:PASSWORD@HOST:PORT/DATABASE, or leave out the role";
        reading.fault_about("engine.role", says);
    }
    for name in engine.queues.iter().filter(|name| !queues.contains_key(*name)) {
        let says = format!("there is no queue called {name}; add [queues.{name}], or leave it out");
        reading.fault_about("engine.queues", says);
    }
}

/// A trusted proxy says who a request belongs to: all of the internet cannot be trusted.
fn check_trust(reading: &mut ConfigReader, name: &http::HeaderName, proxies: &[ipnet::IpNet]) {
    if let Some(range) = widest(proxies) {
        let listed = if range.is_one_of(proxies) { "" } else { ", which the list comes to," };
        let says = format!(
            "{range}{listed} is wider than a network of your own, and auth.principal believes every \
             machine in it that sets {name}; list only the proxies in front, at most a /8 of IPv4 or a \
             /16 of IPv6 each, and none that adjoins another, like [\"10.0.0.0/8\"]"
        );
        reading.fault_about("server.trusted_proxies", says);
    }
}

fn check_listeners(reading: &mut ConfigReader, public: SocketAddr, admin: Option<SocketAddr>) {
    let Some(admin) = admin else { return };
    let everywhere = public.ip().is_unspecified() || admin.ip().is_unspecified();
    // Port 0 is a different free port each time.
    if public.port() == admin.port() && public.port() != 0 && (everywhere || public == admin) {
        let says = "is the same port as server.listen; choose another, or turn it off with \
                    listen = \"off\"";
        reading.fault_about("admin.listen", says);
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
