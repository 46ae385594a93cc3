//! `cloakroom health`: asks a running gateway whether it is ready, for probes in
//! containers without another HTTP client.

use clap::Args;

use super::admin::GatewayAddress;
use super::failure::CommandError;
use super::print;
use cloakroom_runtime::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  cloakroom health                                 whether it takes requests and gets its work done
  cloakroom health --alive                         whether it runs at all
  cloakroom health --admin http://127.0.0.1:9081   of another gateway";

/// Ends with 0 where the gateway is well, and with 1 where it is not or does not answer.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    gateway: GatewayAddress,
    /// Ask whether it runs, not whether it is ready.
    #[arg(long)]
    alive: bool,
}

impl HealthArgs {
    /// Asks once.
    pub(super) async fn run(self, clock: Clock) -> Result<(), CommandError> {
        let probe = if self.alive { "/livez" } else { "/readyz" };
        let words = self.gateway.admin(clock)?.probe(probe).await?;
        print::say(words.trim_end())
    }
}
