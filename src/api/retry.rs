//! `POST …/{id}/retry`, for operators: a finished operation once more, as a new one.
//!
//! The successor names what it repeats (`retryOf`) and comes to the upstream with the
//! same idempotency key, so that an upstream that knows keys acts once. Credentials were
//! erased when the first one ended: it goes without them.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::HeaderValue;

use super::pending::{Acceptance, accepted};
use super::visit::Found;
use super::{Api, Document, Problem, own};
use crate::domain::OperationId;
use crate::domain::http::idempotency;
use crate::domain::operation::{Body, BodyKey, Lane, NewOperation, Policy, RetryPolicy, Work};
use crate::ledger::{Accepted, LedgerError, Operation, Piece};

/// How long an attempt of a repeat may take, where its deadline is not nearer.
const TIMEOUT: Duration = Duration::from_mins(15);
/// How failures of a repeat are tried again.
const RETRY: RetryPolicy =
    RetryPolicy { attempts: 10, min: Duration::from_secs(1), max: Duration::from_mins(5) };
/// The longest chain of repeats that is followed back to the first.
const LONGEST_CHAIN: usize = 100;

pub(super) async fn retry(found: Found) -> Result<Response, Problem> {
    if !found.status().is_final() {
        return Err(Problem::not_ended(found.status()));
    }
    found.not_gone()?;
    let (visit, former) = (&found.visit, &found.operation);
    let work = visit.api.ledger.work(former.id).await?.ok_or_else(Problem::gone)?;
    let key = upstream_key(&visit.api, former, &work).await?;
    let work = copied(&visit.api, work).await?;
    let successor = successor(&visit.api, former, work, key);
    let document = Document::accepted(&successor, &visit.links(successor.id));
    match visit.api.ledger.accept(successor).await? {
        Accepted::QueueFull { depth } => {
            let retry_after = visit.api.settings.pace.estimate(&former.route, depth);
            Err(Problem::queue_full(&former.queue, depth, retry_after))
        }
        // It claims no key, so it is never taken for another one.
        Accepted::New(_) | Accepted::Replayed(_) | Accepted::KeyConflict(_) => {
            let retry_after = found.retry_after();
            let mut response =
                accepted(&document, Acceptance { retry_after, ..Acceptance::default() });
            response
                .headers_mut()
                .insert(own::GATEWAY_ORIGIN, HeaderValue::from_static("cloakroom"));
            Ok(response)
        }
    }
}

/// The key that the first of the chain came with: the client's, else that one's id.
async fn upstream_key(api: &Api, former: &Operation, work: &Work) -> Result<String, Problem> {
    if let Work::Call(request) = work
        && let Ok(Some(key)) = idempotency::key(request.fields.as_map())
    {
        return Ok(key);
    }
    let (mut first, mut before) = (former.id, former.retry_of);
    for _ in 0..LONGEST_CHAIN {
        let Some(id) = before else { break };
        first = id;
        before = api.ledger.find(id).await?.and_then(|operation| operation.retry_of);
    }
    Ok(first.to_string())
}

fn successor(api: &Api, former: &Operation, work: Work, key: String) -> NewOperation {
    let now = api.clock.now();
    let granted = former.deadline_at.since(former.accepted_at);
    NewOperation {
        id: OperationId::new(now, api.ledger.number(), rand::random()),
        accepted_at: now,
        principal: former.principal.clone(),
        route: Arc::from(former.route.as_str()),
        lane: Lane {
            queue: Arc::from(former.queue.as_str()),
            upstream: Arc::from(former.upstream.as_str()),
            express: false,
        },
        work,
        policy: Policy {
            delivery: former.delivery,
            timeout: TIMEOUT.min(granted),
            deadline_at: now + granted,
            retry: RETRY,
            first_answer_is_final: false,
        },
        due_at: now,
        upstream_key: Some(key),
        idempotency: None,
        serial_key: None,
        parent: former.parent,
        retry_of: Some(former.id),
        client_reference: former.client_reference.clone(),
        tags: former.tags.clone(),
        // An operator's repeat is not refused for a full queue.
        max_depth: u64::MAX,
    }
}

/// The same work with a body of its own, because the former one's is freed with it.
async fn copied(api: &Api, work: Work) -> Result<Work, Problem> {
    let Work::Call(mut request) = work else { return Ok(work) };
    if let Body::Chunked { key, length } = request.body {
        let copy = BodyKey(rand::random());
        for number in 0..length.div_ceil(Body::INLINE_LIMIT as u64) as u32 {
            let missing = || LedgerError::Damaged(format!("piece {number} of a body is missing"));
            let octets = api.ledger.piece(key, number).await?.ok_or_else(missing)?;
            api.ledger.stash(vec![Piece { body: copy, number, octets }]).await?;
        }
        request.body = Body::Chunked { key: copy, length };
    }
    Ok(Work::Call(request))
}
