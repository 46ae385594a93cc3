//! `GET …/status`: the document, always 200 and never a redirect, as long as the row
//! stands.

use axum::response::Response;
use http::StatusCode;

use super::own;
use super::visit::Found;

pub(super) async fn show(found: Found) -> Response {
    own::json(StatusCode::OK, own::DOCUMENT_TYPE, &found.document())
}
