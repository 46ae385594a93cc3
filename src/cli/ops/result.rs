//! `cloakroom ops result`: prints the response of the upstream.

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::super::admin::{AdminClient, refusal};
use super::super::failure::CommandError;
use super::super::print;
use super::OperationArg;

const EXAMPLES: &str = "\
Examples:
  cloakroom ops result 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a > answer.json";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ResultArgs {
    #[command(flatten)]
    which: OperationArg,
}

impl ResultArgs {
    /// Prints the body, and its status on the side; fails where there is no 2xx.
    pub(super) async fn run(self, admin: &AdminClient) -> Result<(), CommandError> {
        let answer = admin.fetch(&self.which.id, "result").await?;
        // Only a recorded answer names the status that the upstream gave.
        let Some(recorded) = field(&answer, "upstream-status") else {
            return Err(match answer.status() {
                StatusCode::ACCEPTED => CommandError::Failed(
                    "it has not finished yet: look at `cloakroom ops show`, and ask again"
                        .to_owned(),
                ),
                _ => refusal(&answer),
            });
        };
        let kind = field(&answer, CONTENT_TYPE.as_str()).unwrap_or_else(|| "no type".to_owned());
        let octets = answer.body().len();
        print::complain(&format!("the upstream answered {recorded} ({kind}, {octets} bytes)"))?;
        print::pass_on(answer.body())?;
        if answer.status().is_success() { Ok(()) } else { Err(CommandError::Told) }
    }
}

fn field(answer: &Response<Bytes>, name: &str) -> Option<String> {
    let value = answer.headers().get(name)?;
    Some(print::plain(&String::from_utf8_lossy(value.as_bytes())))
}
