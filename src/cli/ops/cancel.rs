//! `cloakroom ops cancel`: calls an operation off.

use clap::Args;
use http::StatusCode;

use super::super::admin::{Admin, json};
use super::super::failure::Failure;
use super::super::print;
use super::Which;

const EXAMPLES: &str = "\
Examples:
  cloakroom ops cancel 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a

What the upstream has done already stays done.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Cancel {
    #[command(flatten)]
    which: Which,
}

impl Cancel {
    /// Has it called off.
    pub(super) async fn run(self, admin: &Admin, as_json: bool) -> Result<(), Failure> {
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
