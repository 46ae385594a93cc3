//! `POST /webhooks/{id}/deliveries/{number}/redeliver`: sends the message again, with the
//! same id and the same octets. A delivery that waits for its next attempt is sent at once instead.

use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id};
use super::document::DeliveryDocument;
use super::{deliveries, subscription_view};
use crate::api::Problem;
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use cloakroom_ledger::RedeliveryOutcome;

pub(super) async fn redeliver(
    path: SubscriptionPath,
    Path((_, number)): Path<(String, String)>,
    members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&[])?;
    let SubscriptionPath { context, subscription } = path;
    let key = deliveries::named(&number)?;
    subscription_view::active(&subscription)?;
    subscription_view::may_be_changed(&context, &subscription)?;
    match context.ledger().redeliver(subscription.receiver, key, context.now()).await? {
        RedeliveryOutcome::As(going) => {
            let status = if going == key { StatusCode::OK } else { StatusCode::CREATED };
            deliveries::made(&context, &subscription, going, status).await
        }
        RedeliveryOutcome::Pending => Err(Problem::delivery_pending()),
        RedeliveryOutcome::Unknown => Err(Problem::no_such_delivery()),
    }
}

pub(super) fn description() -> Description {
    let going = |says: &str| ResponseDoc::json::<DeliveryDocument>(says).with(&["Location"]);
    let summary = "Send the same message once more, or now";
    Description::new(Tag::Webhooks, "redeliverMessage", summary)
        .at([id(), deliveries::number()])
        .replies(200, going("This delivery, at once instead of later."))
        .replies(201, going("As this new delivery."))
        .conditional()
        .refuses(&[
            NO_SUBSCRIPTION,
            (409, "It is being sent as it is, or the subscription is not active."),
            TOO_LARGE,
            NO_JSON,
        ])
}
