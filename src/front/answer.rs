//! Answers to accepted requests: 202 at once, or the upstream's answer after a wait.
//!
//! Owns the waiting. The invariant: a request that waits watches the operation before it was
//! written, so no end is missed; and giving up waiting changes nothing about the
//! operation. It must not know how operations are carried out.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Method};

use super::body::MemoryPermit;
use super::route::Route;
use super::upload::Upload;
use crate::api::accepted::{self, AcceptedReply, MonitorPointer};
use crate::api::problem::kinds;
use crate::api::recorded_response::{self, PassThroughContext};
use crate::api::{Api, Document, Problem, response};
use crate::config::{AcceptedForm, PrincipalRule};
use cloakroom_domain::OperationId;
use cloakroom_domain::http::expectation::{AnswerDecision, AnswerMode};
use cloakroom_domain::http::links::Links;
use cloakroom_domain::operation::{
    ErrorCode, Failure, NewOperation, OperationState, UpstreamContact,
};
use cloakroom_ledger::{Accepted, FirstCallback, LedgerError, Operation, Subject, Watch};
use cloakroom_runtime::lifecycle::Tasks;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A request that is about to be accepted, and how it wants to be answered.
pub(super) struct PendingAccept<'f> {
    pub(super) api: &'f Api,
    pub(super) route: &'f Route,
    pub(super) decision: &'f AnswerDecision,
    pub(super) base: &'f str,
    /// The front's own end: no answer comes after it.
    pub(super) own: &'f Tasks,
}

impl PendingAccept<'_> {
    /// Writes the operation down and answers, with its callback where that is a `first` one.
    /// `upload` is its body where that lies in pieces, and `memory` what it takes, given back
    /// once it is written.
    pub(super) async fn answer(
        &self,
        operation: NewOperation,
        first: Option<FirstCallback>,
        upload: Option<Upload>,
        memory: Option<MemoryPermit>,
    ) -> Result<Response, Problem> {
        let ledger = &self.api.ledger;
        let (links, queue) = (self.links(operation.id), operation.lane.queue.clone());
        let wait = self.wait();
        let watch = wait.map(|_| ledger.watch(operation.id));
        let document = Document::accepted(&operation, &links);
        let sent = operation.upstream_key.is_some();
        let is_serial = operation.serial_key.is_some();
        let accepted = match upload {
            None => ledger.accept_calling_back(operation, first).await?,
            Some(upload) => Box::pin(upload.accept(operation, first)).await?,
        };
        drop(memory);
        match accepted {
            Accepted::New(id) => match wait.zip(watch) {
                None if is_serial => Box::pin(self.as_it_stands(id, &document)).await,
                None => Ok(self.accepted(&document)),
                Some((wait, watch)) => {
                    let waited = async {
                        let ended = self.ended(id, watch, wait, false).await?;
                        self.after_waiting(id, ended, &links, || self.accepted(&document)).await
                    };
                    Box::pin(waited).await
                }
            },
            // A request of a client's repeats nothing by hand.
            Accepted::Replayed(id) | Accepted::Retried(id) => {
                drop(watch);
                let again = Box::pin(self.again(id)).await;
                let mut response = again.unwrap_or_else(Problem::into_response);
                // To come again would bring the same once more.
                if response
                    .headers()
                    .get(response::GATEWAY_ORIGIN)
                    .is_some_and(|it| it == "upstream")
                {
                    response.headers_mut().remove(RETRY_AFTER);
                }
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                Ok(response)
            }
            Accepted::KeyConflict { of, differs } => {
                Err(self.conflicting(Problem::key_conflict(differs, sent), of))
            }
            Accepted::QueueFull { depth } => {
                let again = self.api.settings.pace.estimate(&self.route.name, depth);
                Err(Problem::queue_full(&queue, depth, again))
            }
            Accepted::StorageFull { stored } => {
                let depth = self.api.ledger.queue_depth(&queue);
                let again = self.api.settings.pace.estimate(&self.route.name, depth);
                Err(Problem::storage_full(&queue, stored, again))
            }
        }
    }

    /// The 202 of an operation that may have to wait for others from the beginning. `document`
    /// is shown where it is gone already.
    async fn as_it_stands(
        &self,
        id: OperationId,
        document: &Document,
    ) -> Result<Response, Problem> {
        // It is accepted: not to know how it stands is no reason to say otherwise.
        let found = self.api.ledger.find(id).await.ok().flatten();
        let found = found.map(|found| Document::of(&found, &self.links(id), self.base));
        Ok(self.accepted(found.as_ref().unwrap_or(document)))
    }

    /// Answers a repeat with the operation that there is.
    async fn again(&self, id: OperationId) -> Result<Response, Problem> {
        let links = self.links(id);
        let watch = self.api.ledger.watch(id);
        let found = self.api.ledger.find(id).await?.ok_or_else(Problem::no_such_operation)?;
        let document = Document::of(&found, &links, self.base);
        let Some(wait) = self.wait() else { return Ok(self.accepted(&document)) };
        let ended = if found.state.status().is_final() {
            Some(found)
        } else {
            self.ended(id, watch, wait, true).await?
        };
        self.after_waiting(id, ended, &links, || self.accepted(&document)).await
    }

    /// Says where the first request with a key is, unless nothing tells callers apart: then its
    /// ticket is all that protects it.
    fn conflicting(&self, problem: Problem, of: OperationId) -> Problem {
        if self.api.settings.principal == PrincipalRule::None {
            return problem;
        }
        let links = self.links(of);
        problem.at_monitor(links.monitor()).with_field(response::OPERATION_ID, of.to_string())
    }

    fn links(&self, id: OperationId) -> Links {
        let ticket = self.api.ledger.ticket_key().ticket(id);
        Links::new(self.base, &self.api.settings.prefix, ticket)
    }

    /// How long an answer is waited for; none for a 202 at once.
    fn wait(&self) -> Option<Duration> {
        match self.decision.answer {
            AnswerMode::Async => None,
            AnswerMode::Hybrid { wait } if wait.is_zero() => None,
            AnswerMode::Hybrid { wait } | AnswerMode::Sync { wait } => Some(wait),
        }
    }

    /// The operation once it has ended, if that is within the time. `look_first` where it
    /// may have changed before it was watched.
    async fn ended(
        &self,
        id: OperationId,
        mut watch: Watch,
        wait: Duration,
        look_first: bool,
    ) -> Result<Option<Operation>, LedgerError> {
        let end = async {
            let mut look = look_first;
            loop {
                if look
                    && let Some(found) = self.api.ledger.find(id).await?
                    && found.state.status().is_final()
                {
                    return Ok(found);
                }
                watch.changed().await;
                look = true;
            }
        };
        tokio::select! {
            ended = self.api.clock.timeout(wait, end) => ended.ok().transpose(),
            () = self.own.draining() => Ok(None),
        }
    }

    async fn after_waiting(
        &self,
        id: OperationId,
        ended: Option<Operation>,
        links: &Links,
        accepted: impl FnOnce() -> Response,
    ) -> Result<Response, Problem> {
        match ended {
            Some(operation) => {
                self.api.settings.pace.saw(&operation);
                self.pass_on(operation, links).await
            }
            None if self.decision.may_fall_back_to_202 => Ok(accepted()),
            None => Err(self.late(id, links)),
        }
    }

    fn accepted(&self, document: &Document) -> Response {
        let settings = &self.api.settings;
        let depth = self.api.ledger.queue_depth(&document.queue);
        // The monitor of one that has ended leads to its answer at once.
        let is_pending = document.finished_at.is_none();
        let retry_after =
            if is_pending { settings.pace.estimate(&document.route, depth) } else { 1 };
        let applied = self.decision.applied_when(true);
        accepted::accepted(
            document,
            AcceptedReply {
                minimal: self.decision.minimal || self.route.accepted == AcceptedForm::Minimal,
                applied: applied.as_deref(),
                pointer: MonitorPointer {
                    retry_after,
                    relative: settings.relative_location.contains(&document.route),
                },
            },
        )
    }

    fn late(&self, id: OperationId, links: &Links) -> Problem {
        let problem = Problem::answer_late(links.monitor());
        let problem = problem
            .with_field(response::OPERATION_ID, id.to_string())
            .with_field(response::OPERATION_LOCATION, links.status());
        match self.decision.applied_when(false) {
            Some(applied) => problem.with_field(response::PREFERENCE_APPLIED, applied),
            None => problem,
        }
    }

    /// The outcome: the upstream's answer, or the reason why there is none.
    async fn pass_on(&self, operation: Operation, links: &Links) -> Result<Response, Problem> {
        let named = |problem: Problem| {
            problem
                .with_field(response::OPERATION_ID, operation.id.to_string())
                .with_field(response::OPERATION_LOCATION, links.status())
        };
        if operation.freed_at.is_some() {
            return Err(named(Problem::gone()));
        }
        let failure = match &operation.state {
            OperationState::Canceled { .. } => return Err(named(Problem::canceled())),
            OperationState::Failed { failure, .. } => Some(failure),
            _ => None,
        };
        if failure.is_none_or(|failure| failure.code != ErrorCode::ResponseTooLarge)
            && let Some(answer) =
                self.api.ledger.answer(operation.id).await.map_err(Problem::from)?
        {
            let applied = self.decision.applied_when(false);
            let passage = PassThroughContext {
                id: operation.id,
                links,
                base: self.base,
                applied: applied.as_deref(),
                is_head: is_head(&operation.subject),
            };
            return Ok(recorded_response::passed_on(&self.api.ledger, answer, passage));
        }
        Err(named(
            failure.map_or_else(Problem::gone, |it| unanswered(it, operation.counts.contact)),
        ))
    }
}

fn is_head(subject: &Subject) -> bool {
    matches!(subject, Subject::Call { method, .. } if method == Method::HEAD.as_str())
}

/// A failure without an answer of the upstream's that could be passed on. A 5xx says that
/// nothing was sent: stock clients repeat those by themselves.
fn unanswered(failure: &Failure, contact: UpstreamContact) -> Problem {
    if contact != UpstreamContact::Nothing {
        return Problem::no_answer(failure);
    }
    let kind = match failure.cause.unwrap_or(failure.code) {
        _ if failure.code == ErrorCode::DeadlineExceeded => &kinds::UPSTREAM_SILENT,
        ErrorCode::UpstreamTimeout => &kinds::UPSTREAM_SILENT,
        ErrorCode::UpstreamUnreachable => &kinds::UPSTREAM_UNREACHABLE,
        _ => &kinds::UPSTREAM_BROKEN,
    };
    let problem = Problem::new(kind, failure.message()).with("code", failure.code.as_str());
    match failure.cause {
        Some(cause) => problem.with("cause", cause.as_str()),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_sent_nothing_is_a_5xx() {
        use ErrorCode::{
            AttemptsExhausted, DeadlineExceeded, OutcomeUnknown, ResponseTooLarge,
            UpstreamProtocol, UpstreamTimeout, UpstreamUnreachable,
        };
        use UpstreamContact::{Answered, Lost, Nothing};
        for (failure, contact, status) in [
            (Failure::of(UpstreamUnreachable), Nothing, 502),
            (Failure::caused(AttemptsExhausted, UpstreamUnreachable), Nothing, 502),
            (Failure::of(DeadlineExceeded), Nothing, 504),
            (Failure::of(UpstreamTimeout), Nothing, 504),
            (Failure::of(UpstreamProtocol), Nothing, 502),
            (Failure::of(UpstreamUnreachable), Lost, 424),
            (Failure::of(UpstreamTimeout), Lost, 424),
            (Failure::caused(OutcomeUnknown, UpstreamTimeout), Lost, 424),
            (Failure::caused(OutcomeUnknown, UpstreamProtocol), Lost, 424),
            (Failure::of(DeadlineExceeded), Lost, 424),
            (Failure::of(ResponseTooLarge).with_status(201), Answered, 424),
        ] {
            assert_eq!(unanswered(&failure, contact).status(), status, "{failure:?}");
        }
    }
}
