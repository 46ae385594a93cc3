//! `GET …/status`: the document, always 200 and never a redirect, as long as the row
//! stands.
//!
//! While the operation is pending it says when to ask again: pollers read that from the
//! answer that they got last, and wait for half a minute where it says nothing. It has no `ETag`, because
//! a 304 would break what is always 200; `If-Match` is compared with that of the monitor.

use axum::response::Response;
use http::StatusCode;

use super::extract::{NO_OPERATION, OperationPath, ticket};
use super::openapi::{Description, ResponseDoc, Tag};
use super::{Problem, accepted, response};

pub(super) async fn show(found: OperationPath) -> Result<Response, Problem> {
    found.may_be_read()?;
    let mut response = response::json(StatusCode::OK, response::DOCUMENT_TYPE, &found.document());
    if found.status().is_final() {
        found.context.api.settings.pace.saw(&found.operation);
    } else {
        accepted::ask_again(response.headers_mut(), found.pointer().retry_after);
    }
    Ok(response)
}

pub(super) fn description() -> Description {
    let reply = ResponseDoc::document("The document; while pending with when to ask again.");
    Description::new(Tag::Operations, "getOperation", "The operation document")
        .at([ticket()])
        .replies(200, reply.with(&["Retry-After"]).linked_by_path())
        .conditional()
        .refuses(&[NO_OPERATION])
}
