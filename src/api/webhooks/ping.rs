//! `POST /webhooks/{id}/ping`: sends a test event to this subscription alone.

use axum::response::Response;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id};
use super::document::DeliveryDocument;
use super::subscription_view::NOT_ACTIVE;
use super::{deliveries, subscription_view};
use crate::api::Problem;
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use cloakroom_ledger::RedeliveryOutcome;

pub(super) async fn ping(path: SubscriptionPath, members: JsonObject) -> Result<Response, Problem> {
    members.only(&[])?;
    let SubscriptionPath { context, subscription } = path;
    subscription_view::active(&subscription)?;
    subscription_view::may_be_changed(&context, &subscription)?;
    match context.ledger().ping(subscription.id, context.now()).await? {
        RedeliveryOutcome::As(key) => {
            deliveries::made(&context, &subscription, key, http::StatusCode::ACCEPTED).await
        }
        RedeliveryOutcome::Pending | RedeliveryOutcome::Unknown => {
            Err(Problem::no_such_subscription())
        }
    }
}

pub(super) fn description() -> Description {
    Description::new(Tag::Webhooks, "pingSubscription", "Send a test event to it")
        .at([id()])
        .replies(202, ResponseDoc::json::<DeliveryDocument>("On its way.").with(&["Location"]))
        .conditional()
        .refuses(&[NO_SUBSCRIPTION, NOT_ACTIVE, TOO_LARGE, NO_JSON])
}
