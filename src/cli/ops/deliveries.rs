//! `cloakroom ops deliveries`: lists the callback deliveries of an operation.

use clap::Args;

use super::super::admin::AdminClient;
use super::super::failure::CommandError;
use super::super::webhooks::deliveries::{found, list};
use super::OperationArg;

const EXAMPLES: &str = "\
Examples:
  cloakroom ops deliveries 019a2f7c-2b1e-7c3d-9a10-5f2e8d4c6b7a
  cloakroom ops deliveries ID --json | jq '.deliveries[].attempts'

What subscriptions were told of: cloakroom webhooks deliveries.";

/// The longest page that is asked for, and so many are shown at most.
const PAGE: usize = 200;
const MOST: usize = 1000;

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListCallbackDeliveries {
    #[command(flatten)]
    which: OperationArg,
}

impl ListCallbackDeliveries {
    /// Prints them, the newest first.
    pub(super) async fn run(self, admin: &AdminClient, as_json: bool) -> Result<(), CommandError> {
        let page = admin.read(&self.which.id, &format!("deliveries?limit={PAGE}")).await?;
        list(&found(admin, page, MOST).await?, as_json)
    }
}
