//! `cloakroom ops retry`: sends a finished operation again, as its successor.

use clap::Args;

use serde_json::json;

use super::super::admin::{AdminClient, json as read, strange};
use super::super::failure::CommandError;
use super::super::print;
use super::{OperationArg, may_have_happened};

const EXAMPLES: &str = "\
Examples:
  cloakroom ops retry 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a
  cloakroom ops show \"$(cloakroom ops retry 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a)\"

The first operation stays as it is, and names its successor (retriedBy). While a retry of it
waits, runs or has succeeded, another one is sent only with --again. The upstream sees the same Idempotency-Key again; one
that ignores it may do the work twice.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    which: OperationArg,
    /// Send it even if an earlier retry waits, runs or has succeeded.
    #[arg(long)]
    again: bool,
}

impl RetryArgs {
    /// Has it sent again, and prints the successor's id.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let former = admin.read(&self.which.id, "status").await?;
        let wish = json!({ "again": self.again });
        let answer = admin.wish(&self.which.id, "retry", &wish).await?;
        if may_have_happened(&former) {
            print::complain(&format!(
                "the upstream may have carried {} out already, and gets the same Idempotency-Key \
                 again: if it ignores keys, look there, and cancel the retry if it did",
                print::plain(&self.which.id)
            ))?;
        }
        if as_json {
            return print::say_json(&read(answer.body())?);
        }
        let id = answer.headers().get("operation-id").and_then(|value| value.to_str().ok());
        print::say(id.ok_or_else(|| strange("the answer names no successor"))?)
    }
}
