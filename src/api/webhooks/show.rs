//! `GET /webhooks/{id}`: one subscription.

use axum::response::Response;
use http::StatusCode;

use super::asking::Chosen;
use super::standing;
use crate::api::Problem;

pub(super) async fn show(chosen: Chosen) -> Result<Response, Problem> {
    let document = standing::whole(&chosen.asking, &chosen.subscription).await?;
    Ok(standing::answer(StatusCode::OK, &chosen.subscription, &document))
}
