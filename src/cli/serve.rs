//! `cloakroom serve`: runs the gateway until it is told to stop.

use clap::Args;

use super::failure::CommandError;
use super::settings::Settings;
use super::{banner, print, reach};
use crate::app::{self, App, Options};
use crate::config::Config;
use crate::telemetry;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Signals;

const EXAMPLES: &str = "\
Examples:
  cloakroom serve --upstream http://localhost:9000
  cloakroom serve --upstream http://localhost:9000 --async 'POST /orders' --async 'POST /reports/{id}'
  cloakroom serve --config cloakroom.toml
  cloakroom serve --upstream http://app:9000 --listen 0.0.0.0:8080 --public-url https://api.example.com
  cloakroom serve --role front --store postgres://gw@db/gw --config cloakroom.toml

SIGTERM or Ctrl-C lets what runs finish within shutdown.grace; a second one ends at once.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// What this node is there for: `both`, or `front` to accept and answer and leave the
    /// work to workers on the same database.
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Refuse to start when the ledger needs migrations, instead of running them.
    #[arg(long)]
    no_migrate: bool,
}

impl ServeArgs {
    /// Starts the gateway, tells where it is, and waits for its end.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let config = self.settings.load_as(self.role)?.config;
        run(config, Options { migrate: !self.no_migrate }, clock).await
    }
}

/// Runs a node until it is told to stop.
pub(super) async fn run(
    config: Config,
    options: Options,
    clock: Clock,
) -> Result<(), CommandError> {
    telemetry::start_logging(&config.log);
    // Before the start: a signal that comes meanwhile must not be lost.
    let mut signals = listen_for_signals()?;
    let started = tokio::select! {
        biased;
        // What has begun of a start ends with the process.
        signal = signals.next() => {
            tracing::info!(signal, "stopped before the start was over");
            return Ok(());
        }
        started = App::start(config.clone(), options, clock.clone()) => started,
    };
    let app = started?;
    tell(&config, &app)?;
    tokio::select! {
        ended = until_stopped(app, &mut signals) => ended,
        never = reach::upstreams(&config, &clock) => match never {},
    }
}

/// From now on, Ctrl-C and SIGTERM are ours to answer.
pub(super) fn listen_for_signals() -> Result<Signals, CommandError> {
    Signals::listen()
        .map_err(|error| CommandError::Failed(format!("cannot listen to signals: {error}")))
}

fn tell(config: &Config, app: &App) -> Result<(), CommandError> {
    if config.engine.role.answers() {
        for line in banner::routes(config) {
            print::say(&line)?;
        }
    }
    let overlaps = banner::overlaps(&app::check(config)?);
    for note in overlaps.iter().chain(&banner::warnings(config)).chain(&app.notes()) {
        print::say(&format!("note: {note}"))?;
    }
    match app.public_address() {
        Some(address) => print::say(&format!("listening on http://{address}"))?,
        None => print::say(&banner::work(config))?,
    }
    match app.admin_address() {
        Some(address) => print::say(&format!("admin on http://{address}")),
        None => print::say("no admin listener (admin.listen is off)"),
    }
}

async fn until_stopped(app: App, signals: &mut Signals) -> Result<(), CommandError> {
    let signal = tokio::select! {
        () = app.failed() => {
            return Err(CommandError::Failed(
                "the ledger's disk failed to make a write durable, so the gateway ended rather \
                 than promise what it cannot keep; look at the disk, then start it again"
                    .to_owned(),
            ));
        }
        signal = signals.next() => signal,
    };
    tracing::info!(signal, "draining: nothing new is taken on, what runs gets its grace");
    tokio::select! {
        () = app.stop() => tracing::info!("stopped"),
        signal = signals.next() => tracing::warn!(signal, "a second signal: ending at once"),
    }
    Ok(())
}
