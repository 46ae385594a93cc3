//! `GET /nodes`: the nodes that share the ledger, for operators.
//!
//! How a node stands is read off its last beat, by ledger time; what the others make of it
//! is decided by each of them.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::RequestContext;
use super::openapi::{Description, ResponseDoc, Tag};
use super::{Problem, response};
use cloakroom_domain::Timestamp;
use cloakroom_domain::fleet::NodeHealth;
use cloakroom_ledger::NodeRow;

/// The nodes, the latest start first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Nodes {
    /// The nodes; those that are gone for a day at least.
    nodes: Vec<NodeDocument>,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeDocument {
    /// The number of its start.
    incarnation: i64,
    /// The name of the node.
    name: String,
    /// `both`, `front` or `worker`.
    role: &'static str,
    /// `alive`, `silent`, `dead` or `ended`.
    state: &'static str,
    /// Its release.
    version: String,
    /// The queues that it works on; empty: every one.
    queues: Vec<String>,
    /// How many attempts may run at once on it.
    slots: u32,
    /// How many ran at its last beat.
    running: u32,
    /// The fingerprint of its configuration.
    fingerprint: String,
    /// When it started.
    started_at: String,
    /// When it beat last.
    beat_at: String,
    /// Seconds since then.
    beat_age: f64,
    /// Seconds that its beat may stay away before it counts as dead.
    lease: f64,
}

impl NodeDocument {
    fn of(row: NodeRow, now: Timestamp) -> Self {
        let age = now.since(row.beat_at);
        let standing = NodeHealth::of(row.ended_at.is_some(), age, row.vitals.lease);
        Self {
            incarnation: row.incarnation,
            name: row.vitals.name,
            role: row.vitals.role.as_str(),
            state: standing.as_str(),
            version: row.version,
            queues: row.vitals.queues,
            slots: row.vitals.slots,
            running: row.vitals.running,
            fingerprint: row.vitals.fingerprint,
            started_at: row.started_at.rfc3339(),
            beat_at: row.beat_at.rfc3339(),
            beat_age: age.as_secs_f64(),
            lease: row.vitals.lease.as_secs_f64(),
        }
    }
}

pub(super) async fn show(context: RequestContext) -> Result<Response, Problem> {
    let now = context.api.clock.now();
    let rows = context.api.ledger.nodes().await?;
    let nodes = rows.into_iter().map(|row| NodeDocument::of(row, now)).collect();
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &Nodes { nodes }))
}

pub(super) fn description() -> Description {
    Description::new(Tag::Ledger, "listNodes", "List the nodes that share the ledger")
        .replies(200, ResponseDoc::json::<Nodes>("The nodes, the latest start first."))
        .refuses(&[(404, "Only the admin listener has it.")])
}
