//! `cloakroom ops`: operations of a running gateway, through its admin listener.

mod cancel;
mod deliveries;
mod list;
mod result;
mod retry;
mod show;
mod verdict;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::GatewayArgs;
use super::failure::CommandError;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom ops list --status failed
  cloakroom ops show ID
  cloakroom ops retry ID
  cloakroom ops list --admin http://127.0.0.1:9081 --json

ID is what `ops list` shows, or a client's ticket.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct OpsArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List operations, newest first.
    List(list::ListOperations),
    /// Show an operation and what happened to it.
    Show(show::ShowArgs),
    /// Print the recorded response of the upstream; its status goes to standard error.
    Result(result::ResultArgs),
    /// Cancel an operation.
    Cancel(cancel::CancelArgs),
    /// Send a finished operation again, as a new operation with the same key to the upstream.
    Retry(retry::RetryArgs),
    /// List the deliveries to the callback of an operation.
    Deliveries(deliveries::ListCallbackDeliveries),
    /// Record the true outcome of an operation whose outcome is unknown.
    Verdict(verdict::VerdictArgs),
}

/// Whether a failed operation may have been carried out, and no person has said what came of it.
fn may_have_happened(document: &Value) -> bool {
    let error = &document["error"];
    let open = [&error["code"], &error["cause"]]
        .into_iter()
        .any(|word| matches!(word.as_str(), Some("outcome-unknown" | "may-have-succeeded")));
    document["status"] == "failed" && open && document["verdict"].is_null()
}

/// The operation that is meant.
#[derive(Args, Debug)]
struct OperationArg {
    /// The id or ticket of the operation, or a URL that contains one.
    #[arg(value_name = "ID")]
    id: String,
}

impl OpsArgs {
    /// Asks the gateway, and prints what it says.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let admin = self.gateway.admin(clock.clone())?;
        match self.command {
            Command::List(list) => list.run(&admin, &clock, self.gateway.json).await,
            Command::Show(show) => show.run(&admin, self.gateway.json).await,
            Command::Result(result) => result.run(&admin).await,
            Command::Cancel(cancel) => cancel.run(&admin, self.gateway.json).await,
            Command::Retry(retry) => retry.run(&admin, self.gateway.json).await,
            Command::Deliveries(deliveries) => deliveries.run(&admin, self.gateway.json).await,
            Command::Verdict(verdict) => verdict.run(&admin, self.gateway.json).await,
        }
    }
}
