//! `GET /webhooks/{id}`: one subscription.

use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id};
use super::document::SubscriptionDocument;
use super::subscription_view;
use crate::api::Problem;
use crate::api::openapi::{Description, Reply, Tag};

pub(super) async fn show(path: SubscriptionPath) -> Result<Response, Problem> {
    let document = subscription_view::whole(&path.context, &path.subscription).await?;
    Ok(subscription_view::answer(StatusCode::OK, &path.subscription, &document))
}

pub(super) fn description() -> Description {
    let reply = Reply::json::<SubscriptionDocument>("The subscription.");
    Description::new(Tag::Webhooks, "getSubscription", "One subscription")
        .at([id()])
        .replies(200, reply.with(&["ETag"]))
        .refuses(&[NO_SUBSCRIPTION])
}
