//! `POST …/cancel`: cancels an operation and keeps its document.

use axum::response::Response;
use http::StatusCode;

use super::extract::{GONE, NO_OPERATION, OperationPath, ticket};
use super::openapi::{Description, ResponseDoc, Tag};
use super::{Problem, accepted, response};
use cloakroom_domain::operation::Status;
use cloakroom_ledger::{Canceled, Freeing};

pub(super) async fn cancel(found: OperationPath) -> Result<Response, Problem> {
    found.not_gone()?;
    if let status @ (Status::Succeeded | Status::Failed) = found.status() {
        return Err(Problem::ended(status));
    }
    found.may_be_changed()?;
    let api = &found.context.api;
    match api.ledger.cancel(found.operation.id, Freeing::Keep, api.clock.now()).await? {
        Canceled::Done | Canceled::Already => {
            let found = found.again().await?;
            Ok(response::json(StatusCode::OK, response::DOCUMENT_TYPE, &found.document()))
        }
        Canceled::Asked => Ok(accepted::still(&found.document(), found.pointer())),
        Canceled::TooLate(status) => Err(Problem::ended(status)),
        Canceled::Unknown => Err(Problem::no_such_operation()),
    }
}

pub(super) fn description() -> Description {
    let summary = "Cancel an operation, and keep its document";
    Description::new(Tag::Operations, "cancelOperation", summary)
        .at([ticket()])
        .replies(200, ResponseDoc::document("Canceled."))
        .replies(202, ResponseDoc::pending("It runs; its upstream connection is being dropped."))
        .conditional()
        .refuses(&[NO_OPERATION, (409, "It had already succeeded or failed."), GONE])
}
