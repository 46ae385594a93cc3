//! `GET /webhooks/{id}`: one subscription.

use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, id};
use super::document::SubscriptionDocument;
use super::subscription_view;
use crate::api::Problem;
use crate::api::openapi::{Description, ResponseDoc, Tag, header, text};

pub(super) async fn show(path: SubscriptionPath) -> Result<Response, Problem> {
    let SubscriptionPath { context, subscription } = &path;
    subscription_view::may_be_read(context, subscription)?;
    if context.preconditions().has(&subscription_view::etag(subscription)) {
        return Ok(subscription_view::not_modified(subscription));
    }
    let document = subscription_view::whole(context, subscription).await?;
    Ok(subscription_view::answer(StatusCode::OK, subscription, &document))
}

pub(super) fn description() -> Description {
    let reply = ResponseDoc::json::<SubscriptionDocument>("The subscription.");
    Description::new(Tag::Webhooks, "getSubscription", "One subscription")
        .at([id()])
        .asks([header("If-None-Match", "The ETag of what the client has.", text())])
        .replies(200, reply.with(&["ETag"]))
        .replies(304, ResponseDoc::empty("It has not changed.").with(&["ETag"]))
        .conditional()
        .refuses(&[NO_SUBSCRIPTION])
}
