//! `DELETE /webhooks/{id}`: removes a subscription and drops its pending deliveries.
//!
//! With `If-Match` only if no other request has changed it since (412), as for a change.

use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id};
use super::subscription_view::may_be_changed;
use crate::api::openapi::{Description, ResponseDoc, Tag};
use crate::api::{Problem, response};
use cloakroom_ledger::{SubscriptionChange, SubscriptionUpdate, UpdateOutcome};

pub(super) async fn delete(path: SubscriptionPath) -> Result<Response, Problem> {
    let SubscriptionPath { context, subscription } = path;
    may_be_changed(&context, &subscription)?;
    let names_state = context.preconditions().names_state();
    let changing = SubscriptionUpdate {
        id: subscription.id,
        principal: context.only().cloned(),
        unless_since: names_state.then_some(subscription.edited),
        change: SubscriptionChange::Delete,
        at: context.now(),
    };
    match context.ledger().change_subscription(changing).await? {
        UpdateOutcome::Done(_) => Ok(response::empty(StatusCode::NO_CONTENT)),
        UpdateOutcome::Meanwhile => Err(Problem::not_as_expected("If-Match")),
        UpdateOutcome::Unknown => Err(Problem::no_such_subscription()),
    }
}

pub(super) fn description() -> Description {
    Description::new(Tag::Webhooks, "deleteSubscription", "Be told of nothing more")
        .at([id()])
        .replies(204, ResponseDoc::empty("Deleted; what was on its way is dropped."))
        .conditional()
        .refuses(&[NO_SUBSCRIPTION])
}
