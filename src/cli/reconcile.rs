//! `cloakroom reconcile`: makes a running gateway check its ledger for contradictions.

use clap::Args;
use serde_json::Value;

use super::admin::{GatewayArgs, strange};
use super::failure::CommandError;
use super::print;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom reconcile --dry-run
  cloakroom reconcile --json | jq '.findings[]'

What is safe is repaired; the rest is told. The exit code is 1 when something needs a
person. A gateway does this by itself each hour (engine.reconcile).";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ReconcileArgs {
    /// Report findings without repairing them.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl ReconcileArgs {
    /// Has it done, and prints what was found.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let admin = self.gateway.admin(clock)?.patient();
        let report = admin.have_done(&format!("reconcile?dry-run={}", self.dry_run)).await?;
        let Some(findings) = report["findings"].as_array() else {
            return Err(strange("the answer has no findings"));
        };
        if self.gateway.json {
            print::say_json(&report)?;
        } else if findings.is_empty() {
            print::complain("everything adds up")?;
        } else {
            let header = ["FINDING", "COUNT", "REPAIRED", "SUCH AS", "WHAT IT MEANS"];
            print::say(&print::table(header, findings.iter().map(row).collect()))?;
        }
        if report["needsPerson"] == true { Err(CommandError::Told) } else { Ok(()) }
    }
}

fn row(finding: &Value) -> [String; 5] {
    let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let repaired = if finding["repaired"] == true { "yes" } else { "no" };
    let example = finding["names"][0].as_str().unwrap_or_default().to_owned();
    [text("kind"), finding["count"].to_string(), repaired.to_owned(), example, text("message")]
}
