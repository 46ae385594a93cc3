//! `POST …/{id}/retry`, for operators: repeats a finished operation as a new one.
//!
//! The successor names what it repeats (`retryOf`) and comes to the upstream with the
//! same idempotency key, so that an upstream that knows keys acts once; the document of the
//! former names its successor (`retriedBy`). While an earlier repeat has not failed, another
//! one has to be asked for with `again`. The receiver of a callback is called back again, about
//! the successor. Credentials were erased when the first one ended: it goes without them.

use std::sync::Arc;

use axum::response::Response;

use super::accepted::{AcceptedReply, accepted};
use super::extract::{GONE, NO_OPERATION, OperationPath, ticket};
use super::json_object::{JsonObject, TOO_LARGE};
use super::openapi::{Description, ResponseDoc, Tag};
use super::{Api, Document, Problem};
use cloakroom_domain::OperationId;
use cloakroom_domain::http::idempotency::sent_octets;
use cloakroom_domain::operation::{
    BodyKey, Lane, ManualRetry, NewOperation, OperationBody, Policy, Work,
};
use cloakroom_ledger::{Accepted, LedgerError, Operation, Piece, Promised};
use serde_json::json;

pub(super) async fn retry(
    found: OperationPath,
    mut members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&["again"])?;
    let again = members.truth("again")?.unwrap_or(false);
    if !found.status().is_final() {
        return Err(Problem::not_ended(found.status()));
    }
    found.not_gone()?;
    found.may_be_changed()?;
    let (context, former) = (&found.context, &found.operation);
    let mut promised = context.api.ledger.promised(former.id).await?.ok_or_else(Problem::gone)?;
    promised.work = copied(&context.api, promised.work).await?;
    let retry = ManualRetry { of: former.id, again };
    let successor = successor(&context.api, former, promised, retry);
    let document = Document::accepted(&successor, &context.links(successor.id));
    match context.api.ledger.accept(successor).await? {
        Accepted::QueueFull { depth } => {
            let retry_after = context.api.settings.pace.estimate(&former.route, depth);
            Err(Problem::queue_full(&former.queue, depth, retry_after))
        }
        Accepted::StorageFull { stored } => {
            let depth = context.api.ledger.queue_depth(&former.queue);
            let retry_after = context.api.settings.pace.estimate(&former.route, depth);
            Err(Problem::storage_full(&former.queue, stored, retry_after))
        }
        Accepted::Retried(standing) => {
            Err(Problem::retried(&standing.to_string(), context.links(standing).monitor()))
        }
        // It claims no key, so it is never taken for another one.
        Accepted::New(_) | Accepted::Replayed(_) | Accepted::KeyConflict { .. } => {
            let pointer = found.pointer();
            Ok(accepted(&document, AcceptedReply { pointer, ..AcceptedReply::default() }))
        }
    }
}

fn successor(
    api: &Api,
    former: &Operation,
    promised: Promised,
    retry: ManualRetry,
) -> NewOperation {
    let now = api.clock.now();
    let Promised { work, policy, due_at, upstream_key, serial_key, callback } = promised;
    // A deadline counts from when the former was to begin.
    let granted = policy.deadline_at.since(due_at);
    NewOperation {
        id: OperationId::new(now, api.ledger.number(), rand::random()),
        accepted_at: now,
        principal: former.principal.clone(),
        route: Arc::from(former.route.as_str()),
        lane: Lane {
            queue: Arc::from(former.queue.as_str()),
            upstream: Arc::from(former.upstream.as_str()),
            express: false,
            quarantine: false,
        },
        work,
        policy: Policy { deadline_at: now + granted, wait: None, ..policy },
        due_at: now,
        // The first of a chain of repeats came with its own id, the others with a key.
        upstream_key: Some(sent_octets(upstream_key.as_deref(), former.id).into_owned()),
        idempotency: None,
        serial_key,
        parent: former.parent,
        retry_of: Some(retry),
        client_reference: former.client_reference.clone(),
        tags: former.tags.clone(),
        callback,
        // An operator's repeat is not refused for a full queue.
        max_depth: u64::MAX,
        max_stored: u64::MAX,
    }
}

/// The same work with a body of its own, because the former one's is freed with it.
async fn copied(api: &Api, work: Work) -> Result<Work, Problem> {
    let Work::Call(mut request) = work else { return Ok(work) };
    if let OperationBody::Chunked { key, length } = request.body {
        let copy = BodyKey(rand::random());
        for number in 0..length.div_ceil(OperationBody::INLINE_LIMIT as u64) as u32 {
            let missing = || LedgerError::Damaged(format!("piece {number} of a body is missing"));
            let octets = api.ledger.piece(key, number).await?.ok_or_else(missing)?;
            api.ledger.stash(vec![Piece { body: copy, number, octets }]).await?;
        }
        request.body = OperationBody::Chunked { key: copy, length };
    }
    Ok(Work::Call(request))
}

pub(super) fn description() -> Description {
    let says = "Retry it although an earlier retry waits, runs or has succeeded.";
    let body = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "again": { "type": "boolean", "default": false, "description": says } },
    });
    Description::new(Tag::Operations, "retryOperation", "Repeat a finished operation")
        .at([ticket()])
        .takes_json(false, body)
        .replies(202, ResponseDoc::accepted("The successor is accepted."))
        .conditional()
        .refuses(&[
            NO_OPERATION,
            (409, "It has not ended, or an earlier retry of it has not failed."),
            GONE,
            TOO_LARGE,
            (415, "The body is no JSON."),
        ])
}
