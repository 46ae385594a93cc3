//! `POST /webhooks/{id}/deliveries/{number}/redeliver`: the same message once more, with the
//! same id and the same octets; or at once, where it waits for another attempt.

use axum::extract::Path;
use axum::response::Response;
use http::StatusCode;

use super::asking::Chosen;
use super::{deliveries, standing};
use crate::api::Problem;
use crate::api::members::Members;
use cloakroom_ledger::Redelivered;

pub(super) async fn redeliver(
    chosen: Chosen,
    Path((_, number)): Path<(String, String)>,
    members: Members,
) -> Result<Response, Problem> {
    members.only(&[])?;
    let Chosen { asking, subscription } = chosen;
    let key = deliveries::named(&number)?;
    standing::active(&subscription)?;
    match asking.ledger().redeliver(subscription.receiver, key, asking.now()).await? {
        Redelivered::As(going) => {
            let status = if going == key { StatusCode::OK } else { StatusCode::CREATED };
            deliveries::made(&asking, &subscription, going, status).await
        }
        Redelivered::Pending => Err(Problem::delivery_pending()),
        Redelivered::Unknown => Err(Problem::no_such_delivery()),
    }
}
