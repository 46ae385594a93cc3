//! `GET …/tree`: what an operation gave rise to, directly and indirectly.
//!
//! Each document names its `parent`, so a list is enough to draw the tree from.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::visit::Found;
use super::{Document, Problem, own};

/// The most operations that are shown.
const MOST: u32 = 1000;

/// An operation and what it gave rise to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tree {
    /// The operation itself.
    operation: Document,
    /// Those below it, each naming its `parent`; 1000 at most.
    operations: Vec<Document>,
}

pub(super) async fn show(found: Found) -> Result<Response, Problem> {
    let visit = &found.visit;
    let below = visit.api.ledger.descendants(found.operation.id, MOST).await?;
    let seen = below.iter().filter(|operation| visit.may_see(operation));
    let operations = seen.map(|operation| visit.document(operation)).collect();
    let tree = Tree { operation: found.document(), operations };
    Ok(own::json(StatusCode::OK, own::JSON_TYPE, &tree))
}
