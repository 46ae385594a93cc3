//! `DELETE /webhooks/{id}`: removes a subscription and drops its pending deliveries.

use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id};
use crate::api::openapi::{Description, Reply, Tag};
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

pub(super) fn description() -> Description {
    Description::new(Tag::Webhooks, "deleteSubscription", "Be told of nothing more")
        .at([id()])
        .replies(204, Reply::empty("Deleted; what was on its way is dropped."))
        .refuses(&[NO_SUBSCRIPTION])
}
