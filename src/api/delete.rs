//! `DELETE …/{ticket}`: cancels the operation and frees its request and its result.

use axum::response::Response;
use http::StatusCode;

use super::extract::{GONE, NO_OPERATION, OperationPath, ticket};
use super::openapi::{Description, ResponseDoc, Tag};
use super::{Problem, accepted, response};
use cloakroom_ledger::{Canceled, Freeing};

pub(super) async fn delete(found: OperationPath) -> Result<Response, Problem> {
    found.not_gone()?;
    found.may_be_changed()?;
    let api = &found.context.api;
    let (id, now) = (found.operation.id, api.clock.now());
    if api.ledger.free(id, now).await? {
        return Ok(response::empty(StatusCode::NO_CONTENT));
    }
    match api.ledger.cancel(id, Freeing::Free, now).await? {
        Canceled::Done => Ok(response::empty(StatusCode::NO_CONTENT)),
        Canceled::Asked => Ok(accepted::still(&found.document(), found.pointer())),
        // It ended between the two writes.
        Canceled::Already | Canceled::TooLate(_) => {
            api.ledger.free(id, now).await?;
            Ok(response::empty(StatusCode::NO_CONTENT))
        }
        Canceled::Unknown => Err(Problem::no_such_operation()),
    }
}

pub(super) fn description() -> Description {
    let summary = "Cancel an operation, and free its request and result";
    Description::new(Tag::Operations, "deleteOperation", summary)
        .at([ticket()])
        .replies(202, ResponseDoc::pending("It runs; its upstream connection is being dropped."))
        .replies(204, ResponseDoc::empty("Freed."))
        .conditional()
        .refuses(&[NO_OPERATION, GONE])
}
