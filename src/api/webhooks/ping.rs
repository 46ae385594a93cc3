//! `POST /webhooks/{id}/ping`: sends a test event to this subscription alone.

use axum::response::Response;

use super::context::SubscriptionPath;
use super::{deliveries, subscription_view};
use crate::api::Problem;
use crate::api::json_object::JsonObject;
use cloakroom_ledger::Redelivered;

pub(super) async fn ping(path: SubscriptionPath, members: JsonObject) -> Result<Response, Problem> {
    members.only(&[])?;
    let SubscriptionPath { context, subscription } = path;
    subscription_view::active(&subscription)?;
    match context.ledger().ping(subscription.id, context.now()).await? {
        Redelivered::As(key) => {
            deliveries::made(&context, &subscription, key, http::StatusCode::ACCEPTED).await
        }
        Redelivered::Pending | Redelivered::Unknown => Err(Problem::no_such_subscription()),
    }
}
