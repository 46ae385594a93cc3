//! `POST /webhooks/{id}/deliveries/{number}/redeliver`: sends the message again, with the
//! same id and the same octets. A delivery that waits for its next attempt is sent at once instead.

use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;

use super::context::SubscriptionPath;
use super::{deliveries, subscription_view};
use crate::api::Problem;
use crate::api::json_object::JsonObject;
use cloakroom_ledger::Redelivered;

pub(super) async fn redeliver(
    path: SubscriptionPath,
    Path((_, number)): Path<(String, String)>,
    members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&[])?;
    let SubscriptionPath { context, subscription } = path;
    let key = deliveries::named(&number)?;
    subscription_view::active(&subscription)?;
    match context.ledger().redeliver(subscription.receiver, key, context.now()).await? {
        Redelivered::As(going) => {
            let status = if going == key { StatusCode::OK } else { StatusCode::CREATED };
            deliveries::made(&context, &subscription, going, status).await
        }
        Redelivered::Pending => Err(Problem::delivery_pending()),
        Redelivered::Unknown => Err(Problem::no_such_delivery()),
    }
}
