//! `DELETE …/{ticket}`: as cancel, and request and result are freed.

use axum::response::Response;
use http::StatusCode;

use super::visit::Found;
use super::{Problem, own, pending};
use cloakroom_ledger::{Canceled, Freeing};

pub(super) async fn delete(found: Found) -> Result<Response, Problem> {
    found.not_gone()?;
    let api = &found.visit.api;
    let (id, now) = (found.operation.id, api.clock.now());
    if api.ledger.free(id, now).await? {
        return Ok(own::empty(StatusCode::NO_CONTENT));
    }
    match api.ledger.cancel(id, Freeing::Free, now).await? {
        Canceled::Done => Ok(own::empty(StatusCode::NO_CONTENT)),
        Canceled::Asked => Ok(pending::still(&found.document(), found.pointer())),
        // It ended between the two writes.
        Canceled::Already | Canceled::TooLate(_) => {
            api.ledger.free(id, now).await?;
            Ok(own::empty(StatusCode::NO_CONTENT))
        }
        Canceled::Unknown => Err(Problem::no_such_operation()),
    }
}
