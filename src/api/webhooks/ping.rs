//! `POST /webhooks/{id}/ping`: a test event, sent to this one alone.

use axum::response::Response;

use super::asking::Chosen;
use super::{deliveries, standing};
use crate::api::Problem;
use crate::api::members::Members;
use cloakroom_ledger::Redelivered;

pub(super) async fn ping(chosen: Chosen, members: Members) -> Result<Response, Problem> {
    members.only(&[])?;
    let Chosen { asking, subscription } = chosen;
    standing::active(&subscription)?;
    match asking.ledger().ping(subscription.id, asking.now()).await? {
        Redelivered::As(key) => {
            deliveries::made(&asking, &subscription, key, http::StatusCode::ACCEPTED).await
        }
        Redelivered::Pending | Redelivered::Unknown => Err(Problem::no_such_subscription()),
    }
}
