//! `DELETE /webhooks/{id}`: removes a subscription and drops its pending deliveries.

use axum::response::Response;
use http::StatusCode;

use super::context::SubscriptionPath;
use crate::api::{Problem, response};
use cloakroom_ledger::{Change, Changed, Changing};

pub(super) async fn delete(path: SubscriptionPath) -> Result<Response, Problem> {
    let SubscriptionPath { context, subscription } = path;
    let changing = Changing {
        id: subscription.id,
        principal: context.only().cloned(),
        unless_since: None,
        change: Change::Delete,
        at: context.now(),
    };
    match context.ledger().change_subscription(changing).await? {
        Changed::Done(_) => Ok(response::empty(StatusCode::NO_CONTENT)),
        Changed::Meanwhile | Changed::Unknown => Err(Problem::no_such_subscription()),
    }
}
