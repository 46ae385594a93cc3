//! `GET …/status`: the document, always 200 and never a redirect, as long as the row
//! stands.
//!
//! While the operation is pending it says when to ask again: pollers read that from the
//! answer that they got last, and wait for half a minute where it says nothing.

use axum::response::Response;
use http::StatusCode;

use super::extract::OperationPath;
use super::{accepted, response};

pub(super) async fn show(found: OperationPath) -> Response {
    let mut response = response::json(StatusCode::OK, response::DOCUMENT_TYPE, &found.document());
    if found.status().is_final() {
        found.context.api.settings.pace.saw(&found.operation);
    } else {
        accepted::ask_again(response.headers_mut(), found.pointer().retry_after);
    }
    response
}
