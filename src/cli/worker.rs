//! `cloakroom worker`: runs operations that other nodes accept, without a public listener.

use clap::Args;

use super::failure::CommandError;
use super::serve;
use super::settings::Settings;
use crate::app::Options;
use cloakroom_domain::fleet::Role;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom worker --store postgres://gw@db/gw --config cloakroom.toml
  cloakroom worker --queues reports,default --slots 8 --config cloakroom.toml --admin-listen 127.0.0.1:8082

A worker has an admin listener (health, metrics) and no public one. It carries out only what is
for upstreams that its configuration names. `cloakroom nodes` shows every node.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    settings: Settings,
    /// Refuse to start when the ledger needs migrations, instead of running them.
    #[arg(long)]
    no_migrate: bool,
}

impl WorkerArgs {
    /// Runs the worker until it is told to stop.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let config = self.settings.load_as(Some(Role::Worker.to_string()))?.config;
        serve::run(config, Options { migrate: !self.no_migrate }, clock).await
    }
}
