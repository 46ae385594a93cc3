//! `GET …/status`: the document, always 200 and never a redirect, as long as the row
//! stands.
//!
//! While the operation is pending it says when to ask again: pollers read that from the
//! answer that they got last, and wait for half a minute where it says nothing.

use axum::response::Response;
use http::StatusCode;

use super::visit::Found;
use super::{own, pending};

pub(super) async fn show(found: Found) -> Response {
    let mut response = own::json(StatusCode::OK, own::DOCUMENT_TYPE, &found.document());
    if found.status().is_final() {
        found.visit.api.settings.pace.saw(&found.operation);
    } else {
        pending::ask_again(response.headers_mut(), found.pointer().retry_after);
    }
    response
}
