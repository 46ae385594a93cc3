//! Flags that override the configuration.

use std::path::PathBuf;

use clap::Args;

use super::failure::CommandError;
use crate::config::{Config, LoadedConfig, Overrides, environment};

/// The configuration: a file, the environment (`CLOAKROOM_…`), and these flags, which win.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Settings {
    /// The URL of the service behind the gateway.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// The address of the public listener [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The address of the admin listener, or `off` [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    #[command(flatten)]
    ledger: LedgerLocation,
    /// The URL by which clients reach the gateway.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// A route that is accepted asynchronously; may be repeated [default: every POST].
    #[arg(long = "async", value_name = "METHOD PATH")]
    async_routes: Vec<String>,
    /// Let all callers of the gateway list all operations.
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    pub(super) node: NodeArgs,
}

/// What a node is among others.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct NodeArgs {
    /// The queues to work on, separated by commas [default: all].
    #[arg(long, value_name = "NAMES")]
    queues: Option<String>,
    /// How many attempts may run at once [default: 256].
    #[arg(long, value_name = "NUMBER")]
    slots: Option<String>,
    /// The name of the node [default: the machine's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Where the configuration and the ledger are.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct LedgerLocation {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ledger [default: `sqlite:cloakroom.db`]. All users of this machine can see a
    /// password in it: set store.url, `CLOAKROOM_STORE_URL` or PGPASSWORD instead, or write it into
    /// ~/.pgpass.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl Settings {
    /// What the flags set.
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            store: self.ledger.store.clone(),
            public_url: self.public_url.clone(),
            upstream: self.upstream.clone(),
            async_routes: self.async_routes.clone(),
            shared: self.shared,
            role: None,
            queues: self.node.queues.clone(),
            slots: self.node.slots.clone(),
            name: self.node.name.clone(),
            upstream_optional: false,
        }
    }

    /// Reads the configuration.
    pub(super) fn load(&self) -> Result<LoadedConfig, CommandError> {
        self.load_as(None)
    }

    /// Reads the configuration of a node with that role, where one is given.
    pub(super) fn load_as(&self, role: Option<String>) -> Result<LoadedConfig, CommandError> {
        let overrides = Overrides { role, ..self.overrides() };
        Ok(Config::load(self.ledger.config.as_deref(), environment(), overrides)?)
    }
}

impl LedgerLocation {
    /// Reads the configuration for a command that calls no upstream.
    pub(super) fn load(&self) -> Result<LoadedConfig, CommandError> {
        let store = self.store.clone();
        let overrides = Overrides { store, upstream_optional: true, ..Overrides::default() };
        Ok(Config::load(self.config.as_deref(), environment(), overrides)?)
    }
}
