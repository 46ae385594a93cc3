//! `cloakroom migrate`: brings the ledger's schema up to date and ends.

use std::time::Duration;

use clap::Args;

use super::failure::CommandError;
use super::{print, settings};
use crate::app;
use cloakroom_ledger::{Ledger, Opening, Retention};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

const EXAMPLES: &str = "\
Examples:
  cloakroom migrate --store sqlite:/var/lib/cloakroom/cloakroom.db
  cloakroom migrate --config cloakroom.toml && cloakroom serve --config cloakroom.toml --no-migrate";

/// How long the ledger may take to close.
const CLOSING: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    ledger: settings::LedgerLocation,
}

impl MigrateArgs {
    /// Opens the ledger with its migrations, and closes it.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let config = self.ledger.load()?.config;
        crate::telemetry::start_logging(&config.log);
        let location = app::location(&config.store);
        let shown = location.to_string();
        let retention =
            Retention { result: config.retention.result, operation: config.retention.operation };
        let keyring = config.secrets.keyring();
        let opening = Opening { location, migrate: true, retention, lanes: Vec::new(), keyring };
        let tasks = Tasks::new();
        let opened = Ledger::open(opening, &clock, &tasks).await;
        let ledger = opened.map_err(|error| CommandError::Failed(error.to_string()))?;
        // Otherwise others would wait for this node until it counts as dead.
        let left = ledger.leave(Vec::new(), clock.now()).await;
        left.map_err(|error| CommandError::Failed(error.to_string()))?;
        // Its last owner closes it.
        drop(ledger);
        tasks.drain();
        if !tasks.ended(&clock, CLOSING, Duration::ZERO).await {
            return Err(CommandError::Failed(format!(
                "the ledger {shown} does not close; try again"
            )));
        }
        print::say(&format!("the ledger {shown} is up to date"))
    }
}
