//! `cloakroom ops cancel`: cancels an operation.

use clap::Args;
use http::StatusCode;

use super::super::admin::{AdminClient, json};
use super::super::failure::CommandError;
use super::super::print;
use super::OperationArg;

const EXAMPLES: &str = "\
Examples:
  cloakroom ops cancel 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a

What the upstream has done already stays done.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct CancelArgs {
    #[command(flatten)]
    which: OperationArg,
}

impl CancelArgs {
    /// Has it called off.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let answer = admin.act(&self.which.id, "cancel").await?;
        if as_json {
            return print::say_json(&json(answer.body())?);
        }
        print::say(match answer.status() {
            StatusCode::ACCEPTED => {
                "its connection to the upstream is being dropped; `cloakroom ops show` tells how \
                 that ended"
            }
            _ => "canceled",
        })
    }
}
