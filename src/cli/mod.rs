//! The command line: commands, output and exit codes.
//!
//! Owns the flags, what is printed for people and for machines, and the exit codes: 0
//! fine, 1 it failed, 2 it was asked wrongly or is configured wrongly. Results go to the
//! standard output, everything else to the standard error output. It must not know how
//! anything is done: each command calls the part that does it.

mod admin;
mod banner;
mod config;
mod counts;
mod demo;
mod doctor;
mod failure;
mod health;
mod http;
mod ledger;
mod listen;
mod migrate;
mod nodes;
mod openapi;
mod ops;
mod print;
mod queues;
mod reach;
mod reconcile;
mod secret_input;
mod secrets;
mod serial;
mod serve;
mod settings;
mod time_args;
mod webhooks;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom demo                                    see what it does, on real traffic
  cloakroom serve --upstream http://localhost:9000  put it in front of a service
  cloakroom ops list --status failed                what went wrong";

/// Hand in a request, take a ticket, collect the result: an HTTP gateway that makes slow
/// requests asynchronous.
#[derive(Debug, Parser)]
#[command(name = "cloakroom", version, after_help = EXAMPLES, subcommand_required = true)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in front of a service.
    Serve(serve::ServeArgs),
    /// Receive webhooks for development: verify them, print them, and fail on request.
    Listen(listen::ListenArgs),
    /// Run operations that other nodes accept, without a public listener.
    Worker(worker::WorkerArgs),
    /// See the whole conversation on real traffic, with a small order service behind it.
    Demo(demo::DemoArgs),
    /// Migrate the ledger's schema, and exit.
    Migrate(migrate::MigrateArgs),
    /// Copy a ledger from a file into a database while the gateway is stopped.
    Ledger(ledger::LedgerArgs),
    /// Check the configuration, or show every value with its source.
    Config(config::ConfigArgs),
    /// Look for causes that would keep the gateway from working on this machine.
    Doctor(doctor::DoctorArgs),
    /// Print the description of the HTTP API as JSON.
    Openapi(openapi::OpenapiArgs),
    /// Ask a running gateway whether it is ready.
    Health(health::HealthArgs),
    /// List the nodes that share the ledger, with their state.
    Nodes(nodes::NodesArgs),
    /// List, show, cancel and retry operations of a running gateway.
    Ops(ops::OpsArgs),
    /// Show queues and upstreams of a running gateway: backlog, running attempts, limits.
    Queues(queues::QueuesArgs),
    /// Check the ledger of a running gateway for contradictions, and repair those that are safe.
    Reconcile(reconcile::ReconcileArgs),
    /// Reseal the secrets in the ledger of a running gateway, after a change of key.
    Secrets(secrets::SecretsArgs),
    /// List serial keys of a running gateway, and release those that a failure blocks.
    Serial(serial::SerialArgs),
    /// Manage webhook subscriptions: create, change, list deliveries, replay.
    Webhooks(webhooks::WebhooksArgs),
}

/// Reads the command line; ends the process where it asks for help or makes no sense.
pub fn parse() -> Cli {
    Cli::parse()
}

/// Carries the command out and says how the process ends.
pub async fn run(cli: Cli) -> ExitCode {
    let clock = Clock::system();
    let done = match cli.command {
        Command::Serve(serve) => serve.run(clock).await,
        Command::Listen(listen) => listen.run(clock).await,
        Command::Worker(worker) => worker.run(clock).await,
        Command::Demo(demo) => demo.run(clock).await,
        Command::Migrate(migrate) => migrate.run(clock).await,
        Command::Ledger(ledger) => ledger.run().await,
        Command::Config(config) => config.run(),
        Command::Doctor(doctor) => doctor.run(clock).await,
        Command::Openapi(openapi) => openapi.run(),
        Command::Health(health) => health.run(clock).await,
        Command::Nodes(nodes) => nodes.run(clock).await,
        Command::Ops(ops) => ops.run(clock).await,
        Command::Queues(queues) => queues.run(clock).await,
        Command::Reconcile(reconcile) => reconcile.run(clock).await,
        Command::Secrets(secrets) => secrets.run(clock).await,
        Command::Serial(serial) => serial.run(clock).await,
        Command::Webhooks(webhooks) => webhooks.run(clock).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

#[cfg(test)]
mod tests;
