//! `GET /webhooks/{id}`: one subscription.

use axum::response::Response;
use http::StatusCode;

use super::context::SubscriptionPath;
use super::subscription_view;
use crate::api::Problem;

pub(super) async fn show(path: SubscriptionPath) -> Result<Response, Problem> {
    let document = subscription_view::whole(&path.context, &path.subscription).await?;
    Ok(subscription_view::answer(StatusCode::OK, &path.subscription, &document))
}
