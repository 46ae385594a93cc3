//! `GET …/tree`: the descendants of an operation, direct and indirect.
//!
//! Each member names its `parent`, so a list is enough to draw the tree from.
//!
//! Owns how much of the others a reader sees. The rule: as much as the reader could have
//! without the tree. Who may list operations sees their documents. Where nothing tells
//! callers apart and the list is not shared, a ticket is all that protects an operation, and
//! anybody who knows the parent's id can have made the child: its document and its ticket are
//! its maker's, and the tree says only that it is there and how it stands.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{NO_OPERATION, OperationPath, ticket};
use super::openapi::{Description, ResponseDoc, Tag};
use super::{Caller, Document, Problem, response};
use cloakroom_domain::Timestamp;
use cloakroom_ledger::Operation;

/// The most operations that are shown.
const MOST: u32 = 1000;

/// An operation and what it gave rise to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tree {
    /// The operation itself.
    operation: Document,
    /// Those below it, each naming its `parent`; 1000 at most.
    operations: Vec<Descendant>,
}

/// An operation in the tree of another one: its document, for those who may list it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Descendant {
    Whole(Box<Document>),
    Standing(DescendantStanding),
}

/// How an operation stands, for those who may not see more of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescendantStanding {
    /// Its id, a UUID.
    id: String,
    /// Where it stands.
    status: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    created_at: String,
    /// When its first attempt began.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// The id of the operation that gave rise to it.
    parent: Option<String>,
}

pub(super) async fn show(found: OperationPath) -> Result<Response, Problem> {
    let context = &found.context;
    let below = context.api.ledger.descendants(found.operation.id, MOST).await?;
    let lists = context.caller == Caller::Operator || context.api.settings.shared;
    let descendant = |operation: &Operation| match lists {
        true => Descendant::Whole(Box::new(context.document(operation))),
        false => Descendant::Standing(DescendantStanding::of(operation)),
    };
    let seen = below.iter().filter(|operation| context.may_see(operation));
    let operations = seen.map(descendant).collect();
    let tree = Tree { operation: found.document(), operations };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &tree))
}

impl DescendantStanding {
    fn of(operation: &Operation) -> Self {
        Self {
            id: operation.id.to_string(),
            status: operation.state.status().to_string(),
            created_at: operation.accepted_at.rfc3339(),
            started_at: operation.started_at.map(Timestamp::rfc3339),
            finished_at: operation.state.finished_at().map(Timestamp::rfc3339),
            parent: operation.parent.map(|id| id.to_string()),
        }
    }
}

pub(super) fn description() -> Description {
    Description::new(Tag::Operations, "getTree", "What an operation gave rise to")
        .at([ticket()])
        .replies(200, ResponseDoc::json::<Tree>("The operation and those below it."))
        .refuses(&[NO_OPERATION])
}
