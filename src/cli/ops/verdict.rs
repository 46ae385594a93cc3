//! `cloakroom ops verdict`: records the true outcome of an operation whose outcome is unknown.

use clap::Args;
use serde_json::json;

use super::super::admin::AdminClient;
use super::super::failure::CommandError;
use super::super::print;
use super::OperationArg;

const EXAMPLES: &str = "\
Examples:
  cloakroom ops list --unknown
  cloakroom ops verdict 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a --happened --location /orders/7
  cloakroom ops verdict 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a --did-not-happen --note 'asked sales'

The operation stays failed. A later verdict takes the place of an earlier one; the timeline
shows both. Neither releases a serial key that the operation blocks.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct VerdictArgs {
    #[command(flatten)]
    which: OperationArg,
    #[command(flatten)]
    outcome: VerdictOutcome,
    /// What the upstream created: an absolute URL, or a path.
    #[arg(long, value_name = "URL", requires = "happened")]
    location: Option<String>,
    /// A note for the record.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct VerdictOutcome {
    /// The upstream has executed the request.
    #[arg(long)]
    happened: bool,
    /// The upstream has not executed the request.
    #[arg(long)]
    did_not_happen: bool,
}

impl VerdictArgs {
    /// Has it written down.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let outcome = if self.outcome.did_not_happen { "did-not-happen" } else { "happened" };
        let told = json!({ "outcome": outcome, "location": self.location, "note": self.note });
        let document = admin.tell(&self.which.id, "verdict", &told).await?;
        if as_json {
            return print::say_json(&document);
        }
        print::say(outcome)
    }
}
