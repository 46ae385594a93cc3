//! `POST …/cancel`: calls an operation off and keeps its document.

use axum::response::Response;
use http::StatusCode;

use super::visit::Found;
use super::{Problem, own, pending};
use cloakroom_ledger::{Canceled, Freeing};

pub(super) async fn cancel(found: Found) -> Result<Response, Problem> {
    found.not_gone()?;
    let api = &found.visit.api;
    match api.ledger.cancel(found.operation.id, Freeing::Keep, api.clock.now()).await? {
        Canceled::Done | Canceled::Already => {
            let found = found.again().await?;
            Ok(own::json(StatusCode::OK, own::DOCUMENT_TYPE, &found.document()))
        }
        Canceled::Asked => Ok(pending::still(&found.document(), found.pointer())),
        Canceled::TooLate(status) => Err(Problem::ended(status)),
        Canceled::Unknown => Err(Problem::no_such_operation()),
    }
}
