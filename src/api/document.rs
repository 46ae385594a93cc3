//! The operation document, as section 4 of the contract defines it.
//!
//! Owns which member is null when. Every URL in it is absolute. It must not know who
//! reads it.

use serde::Serialize;
use utoipa::ToSchema;

use super::problem::kinds;
use cloakroom_domain::Timestamp;
use cloakroom_domain::http::links::Links;
pub use cloakroom_domain::http::location::public;
use cloakroom_domain::operation::{
    Failure, NewOperation, OperationState, Status, Verdict, WaitingFor, Work,
};
use cloakroom_ledger::{Operation, Subject};

/// An operation and where it stands. Clients take an unknown status for pending and
/// ignore members that they do not know.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Its id, a UUID.
    pub id: String,
    /// Where it stands.
    #[schema(examples("queued", "running", "waiting", "succeeded", "failed", "canceled"))]
    pub status: String,
    /// When it was accepted, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When its first attempt began.
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    /// When request and result are freed; known once it has ended.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// The request to the upstream.
    pub request: DocumentRequest,
    /// The route that took it.
    pub route: String,
    /// The queue that it lies in.
    pub queue: String,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts handed back or interrupted by a shutdown.
    pub resumes: u32,
    /// Attempts whose gateway died.
    pub rescues: u32,
    /// When the next attempt is due.
    #[schema(format = DateTime)]
    pub next_attempt_at: Option<String>,
    /// The reason why a waiting operation waits.
    #[schema(examples("upstream", "serial-key"))]
    pub waiting_for: Option<String>,
    /// How far it is, as the upstream reported; 100 once it has succeeded.
    #[schema(maximum = 100)]
    pub percent_complete: Option<u8>,
    /// The upstream's message about its progress.
    pub message: Option<String>,
    /// The status of the recorded answer.
    pub response_status: Option<u16>,
    /// Stands there only where nothing but the closing of the connection ended that answer, so
    /// that one which broke off would look the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("close"))]
    pub response_framing: Option<String>,
    /// Where the recorded answer is, once it has ended.
    pub resource_location: Option<String>,
    /// The URL that the upstream named as created.
    pub created_location: Option<String>,
    /// Why it failed or was canceled.
    pub error: Option<DocumentError>,
    /// The verdict of an operator about an unknown outcome.
    pub verdict: Option<DocumentVerdict>,
    /// The tags of the operation.
    pub tags: Vec<String>,
    /// The client's own id of the operation.
    pub client_reference: Option<String>,
    /// The id of the operation that gave rise to it.
    pub parent: Option<String>,
    /// The id of the operation that it repeats by hand.
    pub retry_of: Option<String>,
    /// The id of the operation that repeats it by hand, the newest of several.
    pub retried_by: Option<String>,
    /// Where its resources are.
    pub links: DocumentLinks,
}

/// The request to the upstream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DocumentRequest {
    /// The method.
    pub method: String,
    /// Path and query as given.
    pub url: String,
}

/// Why an operation failed or was canceled.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DocumentError {
    /// For programs; stays.
    #[schema(examples("upstream-status", "outcome-unknown", "upstream-timeout", "canceled"))]
    pub code: String,
    /// For people: what happened and what to do next.
    pub message: String,
    /// The cause, where the code alone does not tell it.
    pub cause: Option<String>,
}

/// The verdict of an operator about an unknown outcome.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DocumentVerdict {
    /// Whether the upstream carried the request out.
    #[schema(examples("happened", "did-not-happen"))]
    pub outcome: String,
    /// The URL of the created resource.
    pub location: Option<String>,
    /// The operator's note.
    pub note: Option<String>,
    /// When that was written down.
    #[schema(format = DateTime)]
    pub at: String,
}

/// Where an operation's resources are.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DocumentLinks {
    /// 202 while pending, 303 when finished.
    pub monitor: String,
    /// This document.
    pub status: String,
    /// The recorded answer.
    pub result: String,
    /// The timeline.
    pub events: String,
    /// Where a POST cancels.
    pub cancel: String,
    /// The operations that it gave rise to.
    pub tree: String,
}

impl Document {
    /// An operation as it stands. `base` is the public origin.
    pub fn of(operation: &Operation, links: &Links, base: &str) -> Self {
        let finished = operation.state.finished_at();
        let (next_attempt_at, waiting_for) = next(&operation.state);
        Self {
            id: operation.id.to_string(),
            status: operation.state.status().to_string(),
            created_at: operation.accepted_at.rfc3339(),
            started_at: operation.started_at.map(Timestamp::rfc3339),
            finished_at: finished.map(Timestamp::rfc3339),
            expires_at: operation.expires_at.map(Timestamp::rfc3339),
            request: match &operation.subject {
                Subject::Call { method, target } => DocumentRequest::new(method, target),
                Subject::Task(name) => DocumentRequest::new("TASK", name),
            },
            route: operation.route.clone(),
            queue: operation.queue.clone(),
            attempts: operation.counts.attempts,
            resumes: operation.counts.resumes,
            rescues: operation.counts.rescues,
            next_attempt_at: next_attempt_at.map(Timestamp::rfc3339),
            waiting_for: waiting_for.map(|on| on.as_str().to_owned()),
            percent_complete: match operation.state {
                OperationState::Succeeded { .. } => Some(100),
                _ => operation.percent,
            },
            message: operation.message.clone(),
            response_status: operation.response_status.or_else(|| told_status(&operation.state)),
            response_framing: operation.response_framing.map(|it| it.as_str().to_owned()),
            resource_location: finished.map(|_| links.result()),
            created_location: operation.created_location.as_deref().map(|to| public(to, base)),
            error: match &operation.state {
                OperationState::Failed { failure, .. } => Some(DocumentError::of(failure)),
                OperationState::Canceled { .. } => Some(DocumentError::canceled()),
                _ => None,
            },
            verdict: operation.verdict.as_ref().map(|verdict| DocumentVerdict::of(verdict, base)),
            tags: operation.tags.clone(),
            client_reference: operation.client_reference.clone(),
            parent: operation.parent.map(|id| id.to_string()),
            retry_of: operation.retry_of.map(|id| id.to_string()),
            retried_by: operation.retried_by.map(|id| id.to_string()),
            links: DocumentLinks::of(links),
        }
    }

    /// An operation that has just been accepted, without asking the ledger.
    pub fn accepted(operation: &NewOperation, links: &Links) -> Self {
        Self {
            id: operation.id.to_string(),
            status: Status::Queued.to_string(),
            created_at: operation.accepted_at.rfc3339(),
            started_at: None,
            finished_at: None,
            expires_at: None,
            request: match &operation.work {
                Work::Call(request) => {
                    DocumentRequest::new(request.method.as_str(), &request.target)
                }
                Work::Task { name, .. } => DocumentRequest::new("TASK", name),
            },
            route: operation.route.to_string(),
            queue: operation.lane.queue.to_string(),
            attempts: 0,
            resumes: 0,
            rescues: 0,
            next_attempt_at: Some(operation.due_at.rfc3339()),
            waiting_for: None,
            percent_complete: None,
            message: None,
            response_status: None,
            response_framing: None,
            resource_location: None,
            created_location: None,
            error: None,
            verdict: None,
            tags: operation.tags.clone(),
            client_reference: operation.client_reference.clone(),
            parent: operation.parent.map(|id| id.to_string()),
            retry_of: operation.retry_of.map(|retry| retry.of.to_string()),
            retried_by: None,
            links: DocumentLinks::of(links),
        }
    }
}

fn next(state: &OperationState) -> (Option<Timestamp>, Option<WaitingFor>) {
    match state {
        OperationState::Queued { due_at } => (Some(*due_at), None),
        OperationState::Waiting { on, due_at } => (*due_at, Some(*on)),
        _ => (None, None),
    }
}

impl DocumentRequest {
    fn new(method: &str, url: &str) -> Self {
        Self { method: method.to_owned(), url: url.to_owned() }
    }
}

/// The status of an answer that came and is not kept, because it could not be read.
fn told_status(state: &OperationState) -> Option<u16> {
    match state {
        OperationState::Failed { failure, .. } => failure.status,
        _ => None,
    }
}

impl DocumentError {
    fn of(failure: &Failure) -> Self {
        Self {
            code: failure.code.to_string(),
            message: failure.message(),
            cause: failure.cause.map(|cause| cause.to_string()),
        }
    }

    /// Pollers look for an error in whatever did not succeed.
    fn canceled() -> Self {
        Self {
            code: kinds::CANCELED.name.to_owned(),
            message: "the operation was canceled, so it has no result: send it anew".to_owned(),
            cause: None,
        }
    }
}

impl DocumentVerdict {
    fn of(verdict: &Verdict, base: &str) -> Self {
        Self {
            outcome: verdict.as_str().to_owned(),
            location: verdict.location.as_deref().map(|to| public(to, base)),
            note: verdict.note.clone(),
            at: verdict.at.rfc3339(),
        }
    }
}

impl DocumentLinks {
    fn of(links: &Links) -> Self {
        Self {
            monitor: links.monitor().to_owned(),
            status: links.status(),
            result: links.result(),
            events: links.events(),
            cancel: links.cancel(),
            tree: links.tree(),
        }
    }
}
