//! `DELETE /webhooks/{id}`: it is told of nothing more, and what was on its way is dropped.

use axum::response::Response;
use http::StatusCode;

use super::asking::Chosen;
use crate::api::{Problem, own};
use cloakroom_ledger::{Change, Changed, Changing};

pub(super) async fn delete(chosen: Chosen) -> Result<Response, Problem> {
    let Chosen { asking, subscription } = chosen;
    let changing = Changing {
        id: subscription.id,
        principal: asking.only().cloned(),
        unless_since: None,
        change: Change::Delete,
        at: asking.now(),
    };
    match asking.ledger().change_subscription(changing).await? {
        Changed::Done(_) => Ok(own::empty(StatusCode::NO_CONTENT)),
        Changed::Meanwhile | Changed::Unknown => Err(Problem::no_such_subscription()),
    }
}
