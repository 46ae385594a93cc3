//! `POST /reconcile`, for operators: looks for what does not add up, and repairs what is
//! safe; with `?dry-run=true` it only looks.

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::RequestContext;
use super::openapi::{Description, ResponseDoc, Tag, query};
use super::{Problem, response};
use cloakroom_domain::reconcile::{DiscrepancyReport, ReconcileFinding};
use serde_json::json;

/// The report of a reconciliation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReconcileReport {
    /// How many operations were looked at.
    operations: u64,
    /// Whether something is left that only a person can put right.
    needs_person: bool,
    /// The findings, by kind.
    findings: Vec<FindingDocument>,
}

/// All of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FindingDocument {
    /// The kind of the finding.
    #[schema(examples("key-blocked", "outcome-unknown", "in-no-state"))]
    kind: String,
    /// How many.
    count: u64,
    /// Whether they were put right.
    repaired: bool,
    /// For people: what it means and what to do.
    message: String,
    /// Some of them: ids of operations, names of keys, or tables.
    names: Vec<String>,
}

pub(super) async fn reconcile(
    context: RequestContext,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let dry_run = is_dry_run(query.as_deref().unwrap_or_default())?;
    let report = context.api.ledger.reconcile(!dry_run, context.api.clock.now()).await?;
    let document = ReconcileReport {
        operations: report.looked_at,
        needs_person: report.needs_a_person(),
        findings: report.findings.iter().map(|finding| shown(&report, finding)).collect(),
    };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &document))
}

fn shown(report: &DiscrepancyReport, finding: &ReconcileFinding) -> FindingDocument {
    FindingDocument {
        kind: finding.kind.as_str().to_owned(),
        count: finding.count,
        repaired: report.repaired && finding.kind.is_safe_to_repair(),
        message: finding.kind.says().to_owned(),
        names: finding.names.clone(),
    }
}

fn is_dry_run(query: &str) -> Result<bool, Problem> {
    let mut dry_run = false;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let refused = || Problem::malformed_parameter(&name, "known is dry-run=true or false");
        if name != "dry-run" {
            return Err(refused());
        }
        dry_run = value.parse().map_err(|_| refused())?;
    }
    Ok(dry_run)
}

pub(super) fn description() -> Description {
    let summary = "Look for what does not add up and repair what is safe";
    Description::new(Tag::Ledger, "reconcileLedger", summary)
        .asks([query("dry-run", "Only look.", json!({ "type": "boolean" }))])
        .replies(200, ResponseDoc::json::<ReconcileReport>("What was found."))
        .refuses(&[(404, "On the public listener.")])
}
