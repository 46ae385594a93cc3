//! Writing new operations down.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::batch::{Script, Statement, Values};
use super::rows::{
    Carried, TAG_SEPARATOR, as_micros, damaged, delivery_name, get, id, maybe_id, put_body,
};
use super::{Writing, prune, settle};
use crate::domain::operation::{
    Body, EventKind, IdempotencyClaim, KeyScope, NewOperation, WaitingFor, Work,
};
use crate::domain::{OperationId, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::store::Batch;
use crate::ledger::verbs::{AcceptVerdict, Acceptance, Piece, Placed};

static OPERATIONS: Statement = Statement::insert(
    "INSERT INTO operations (seq, id, accepted_at, principal, route, lane, method, target, delivery, timeout_us, \
     deadline_at, retry_attempts, retry_min_us, retry_max_us, first_is_final, due_at, task, upstream_key, \
     key_digest, serial_digest, serial_key, parent, root, retry_of, client_reference, tags)",
    26,
);
/// The same without what most operations do not have.
static PLAIN: Statement = Statement::insert(
    "INSERT INTO operations (seq, id, accepted_at, principal, route, lane, method, target, delivery, timeout_us, \
     deadline_at, retry_attempts, retry_min_us, retry_max_us, first_is_final, due_at)",
    16,
);
static REQUESTS: Statement =
    Statement::insert("INSERT INTO requests (seq, fields, body, body_key, body_length)", 5);
static CREDENTIALS: Statement = Statement::insert("INSERT INTO credentials (seq, fields)", 2);
static TAGS: Statement = Statement::insert("INSERT OR IGNORE INTO tags (tag, seq)", 2);
static KEYS: Statement = Statement::insert(
    "INSERT OR REPLACE INTO idempotency_keys (digest, fingerprint, scope, seq)",
    4,
);
static SERIAL: Statement = Statement::insert("INSERT INTO serial_keys (digest, seq)", 2);
static SERIAL_WAITING: Statement = Statement::insert(
    "INSERT INTO waiting (seq, lane, waiting_for, due_at, serial_digest, version, continuation, attempts, resumes, \
     rescues, refusals, token, sequence, started_at, percent, message)",
    16,
);
static PIECES: Statement =
    Statement::insert("INSERT OR REPLACE INTO pieces (body, number, octets)", 3);
static STANDING_KEYS: Statement = Statement::among(
    "SELECT k.digest, k.fingerprint, k.scope, o.id, x.seq IS NOT NULL AS finished FROM idempotency_keys k \
     JOIN operations o ON o.seq = k.seq LEFT JOIN outcomes x ON x.seq = k.seq WHERE k.digest IN",
    "",
);
static PARENTS: Statement =
    Statement::among("SELECT id, principal, root FROM operations WHERE id IN", "");
static HELD: Statement = Statement::among("SELECT digest FROM serial_keys WHERE digest IN", "");

/// A new operation with its place and its ties to others.
struct Entry<'a> {
    seq: i64,
    operation: &'a NewOperation,
    lane: i64,
    placed: Placed,
    parent: Option<(OperationId, OperationId)>,
}

impl Entry<'_> {
    /// A call with nothing but what every call has.
    fn is_plain(&self) -> bool {
        let NewOperation { work, upstream_key, serial_key, retry_of, .. } = self.operation;
        let NewOperation { idempotency, client_reference, tags, .. } = self.operation;
        matches!(work, Work::Call(_))
            && upstream_key.is_none()
            && idempotency.is_none()
            && serial_key.is_none()
            && self.parent.is_none()
            && retry_of.is_none()
            && client_reference.is_none()
            && tags.is_empty()
    }
}

pub(super) async fn accept(writing: &mut Writing, batch: &[Acceptance]) -> Batch<AcceptVerdict> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys = standing_keys(writing, batch).await?;
    let parents = parents(writing, batch).await?;
    let mut held = held_serial_keys(writing, batch).await?;
    let mut verdicts = Vec::with_capacity(batch.len());
    let mut entries = Vec::with_capacity(batch.len());
    for Acceptance { operation, hand_off } in batch {
        if let Some(verdict) =
            operation.idempotency.as_ref().and_then(|claim| repeat_of(&mut keys, claim, operation))
        {
            // Its pieces were written before anybody knew that it is a repeat.
            if let Some(key) = operation.work.pieces() {
                prune::erase_pieces(writing, key.0).await?;
            }
            verdicts.push(verdict);
            continue;
        }
        let seq = writing.next_seq;
        writing.next_seq += 1;
        let waits = operation.serial_key.as_ref().is_some_and(|key| !held.insert(key.digest));
        let placed = match (waits, hand_off) {
            (true, _) => Placed::Waiting,
            (false, true) => Placed::Running,
            (false, false) => Placed::Ready,
        };
        let parent =
            operation.parent.and_then(|id| parents.of(id, operation).map(|root| (id, root)));
        entries.push(Entry {
            seq,
            operation,
            lane: writing.book.number(&operation.lane)?,
            placed,
            parent,
        });
        verdicts.push(AcceptVerdict::New { seq, placed });
    }
    let mut script = Script::default();
    place(write(&mut script, &entries), &entries, writing.book.incarnation);
    writing.defer(script).await?;
    Ok(verdicts)
}

/// What stands under an idempotency key.
struct Standing {
    fingerprint: [u8; 32],
    id: OperationId,
    /// It no longer counts: it was to count only while pending.
    over: bool,
}

async fn standing_keys(
    writing: &mut Writing,
    batch: &[Acceptance],
) -> Result<HashMap<[u8; 16], Standing>, LedgerError> {
    let digests: Vec<_> = batch
        .iter()
        .filter_map(|acceptance| Some(acceptance.operation.idempotency?.digest))
        .collect();
    let bind = |digest: &[u8; 16], values: &mut Values| {
        values.put(digest.to_vec());
    };
    let rows = STANDING_KEYS.fetch_in(writing, &digests, bind).await?;
    let mut standing = HashMap::with_capacity(digests.len());
    for row in &rows {
        let digest = get::<&[u8]>(row, "digest")?.try_into().map_err(damaged)?;
        let over = get::<&str>(row, "scope")? == "pending" && get::<bool>(row, "finished")?;
        let fingerprint = get::<&[u8]>(row, "fingerprint")?.try_into().map_err(damaged)?;
        standing.insert(digest, Standing { fingerprint, id: id(row, "id")?, over });
    }
    Ok(standing)
}

/// The verdict on a repeat; none if the operation is the first under its key, which
/// from now on stands for it.
fn repeat_of(
    keys: &mut HashMap<[u8; 16], Standing>,
    claim: &IdempotencyClaim,
    operation: &NewOperation,
) -> Option<AcceptVerdict> {
    if let Some(standing) = keys.get(&claim.digest).filter(|standing| !standing.over) {
        return Some(if standing.fingerprint == claim.fingerprint {
            AcceptVerdict::Replayed(standing.id)
        } else {
            AcceptVerdict::KeyConflict(standing.id)
        });
    }
    let standing = Standing { fingerprint: claim.fingerprint, id: operation.id, over: false };
    keys.insert(claim.digest, standing);
    None
}

/// The parents that a batch names, as far as they exist.
struct Parents(HashMap<OperationId, (Vec<u8>, OperationId)>);

impl Parents {
    /// The root of the parent's tree, if the parent is the same principal's.
    fn of(&self, parent: OperationId, child: &NewOperation) -> Option<OperationId> {
        let (principal, root) = self.0.get(&parent)?;
        (principal == child.principal.as_bytes()).then_some(*root)
    }
}

async fn parents(writing: &mut Writing, batch: &[Acceptance]) -> Result<Parents, LedgerError> {
    let named: Vec<_> = batch.iter().filter_map(|acceptance| acceptance.operation.parent).collect();
    let bind = |id: &OperationId, values: &mut Values| {
        values.put(id.as_bytes().to_vec());
    };
    let rows = PARENTS.fetch_in(writing, &named, bind).await?;
    let mut parents = HashMap::with_capacity(rows.len());
    for row in &rows {
        let parent = id(row, "id")?;
        let root = maybe_id(row, "root")?.unwrap_or(parent);
        parents.insert(parent, (get(row, "principal")?, root));
    }
    Ok(Parents(parents))
}

async fn held_serial_keys(
    writing: &mut Writing,
    batch: &[Acceptance],
) -> Result<HashSet<[u8; 16]>, LedgerError> {
    let digests: Vec<_> = batch
        .iter()
        .filter_map(|acceptance| Some(acceptance.operation.serial_key.as_ref()?.digest))
        .collect();
    let bind = |digest: &[u8; 16], values: &mut Values| {
        values.put(digest.to_vec());
    };
    let rows = HELD.fetch_in(writing, &digests, bind).await?;
    rows.iter().map(|row| get::<&[u8]>(row, "digest")?.try_into().map_err(damaged)).collect()
}

/// What each operation is, whatever state it begins in.
fn write<'a>(script: &'a mut Script, entries: &[Entry<'_>]) -> &'a mut Script {
    let secret: Vec<_> =
        entries.iter().filter_map(|entry| Some((entry.seq, credentials(entry)?))).collect();
    let tags: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.operation.tags.iter().map(|tag| (tag, entry.seq)))
        .collect();
    let keys: Vec<_> =
        entries.iter().filter_map(|e| Some((e.operation.idempotency?, e.seq))).collect();
    let serial: Vec<_> = entries
        .iter()
        .filter(|entry| entry.placed != Placed::Waiting)
        .filter_map(|entry| Some((entry.operation.serial_key.as_ref()?.digest, entry.seq)))
        .collect();
    if entries.iter().all(Entry::is_plain) {
        script.add(&PLAIN, entries, put_plain);
    } else {
        script.add(&OPERATIONS, entries, put_operation);
    }
    script
        .add(&REQUESTS, entries, put_request)
        .add(&CREDENTIALS, &secret, |(seq, fields), values| {
            values.put(*seq).put(fields.clone());
        })
        .add(&TAGS, &tags, |(tag, seq), values| {
            values.put((*tag).clone()).put(*seq);
        })
        .add(&KEYS, &keys, |(claim, seq), values| {
            let scope = match claim.scope {
                KeyScope::Retained => "retained",
                KeyScope::Pending => "pending",
            };
            values.put(claim.digest.to_vec()).put(claim.fingerprint.to_vec()).put(scope).put(*seq);
        })
        .add(&SERIAL, &serial, |(digest, seq), values| {
            values.put(digest.to_vec()).put(*seq);
        })
}

fn octets(id: OperationId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

fn put_plain(entry: &Entry<'_>, values: &mut Values) {
    let Entry { seq, operation, lane, .. } = entry;
    values.put(*seq).put(octets(operation.id)).put(operation.accepted_at.as_micros());
    values.put(operation.principal.as_bytes().to_vec()).put(Arc::clone(&operation.route));
    values.put(*lane);
    match &operation.work {
        Work::Call(request) => {
            values.put(Some(request.method.as_str().to_owned())).put(Some(request.target.clone()))
        }
        Work::Task { .. } => values.put(None::<String>).put(None::<String>),
    };
    let policy = &operation.policy;
    values
        .put(delivery_name(policy.delivery))
        .put(as_micros(policy.timeout))
        .put(policy.deadline_at.as_micros());
    values
        .put(policy.retry.attempts)
        .put(as_micros(policy.retry.min))
        .put(as_micros(policy.retry.max));
    values.put(policy.first_answer_is_final).put(operation.due_at.as_micros());
}

fn put_operation(entry: &Entry<'_>, values: &mut Values) {
    let Entry { operation, parent, .. } = entry;
    put_plain(entry, values);
    match &operation.work {
        Work::Call(_) => values.put(None::<String>),
        Work::Task { name, .. } => values.put(Some(name.clone())),
    };
    values.put(operation.upstream_key.clone());
    values.put(operation.idempotency.map(|claim| claim.digest.to_vec()));
    values.put(operation.serial_key.as_ref().map(|key| key.digest.to_vec()));
    values.put(operation.serial_key.as_ref().map(|key| key.text.clone()));
    values.put(parent.map(|(id, _)| octets(id))).put(parent.map(|(_, root)| octets(root)));
    values.put(operation.retry_of.map(octets)).put(operation.client_reference.clone());
    values.put((!operation.tags.is_empty()).then(|| operation.tags.join(TAG_SEPARATOR)));
}

fn put_request(entry: &Entry<'_>, values: &mut Values) {
    values.put(entry.seq);
    match &entry.operation.work {
        Work::Call(request) => put_body(&request.body, values.put(request.fields.encode())),
        Work::Task { arguments, .. } => {
            put_body(&Body::Inline(arguments.clone()), values.put(Vec::<u8>::new()));
        }
    }
}

fn credentials(entry: &Entry<'_>) -> Option<Vec<u8>> {
    match &entry.operation.work {
        Work::Call(request) if !request.credentials.is_empty() => {
            Some(request.credentials.encode())
        }
        Work::Call(_) | Work::Task { .. } => None,
    }
}

/// Puts each operation into the state that it begins in.
fn place(script: &mut Script, entries: &[Entry<'_>], node: i64) {
    let of = |placed| entries.iter().filter(move |entry| entry.placed == placed);
    let ready: Vec<_> = of(Placed::Ready)
        .map(|entry| settle::ReadyRow::new(entry.seq, entry.lane, entry.operation.due_at))
        .collect();
    let running: Vec<_> = of(Placed::Running).map(|entry| running_row(entry, node)).collect();
    let waiting: Vec<_> = of(Placed::Waiting).collect();
    let started = running.iter().map(settle::RunningRow::started);
    let waits = of(Placed::Waiting).map(|entry| wait_event(entry, entry.operation.accepted_at));
    let events: Vec<_> = started.chain(waits).collect();
    script
        .add(&settle::READY, &ready, settle::ReadyRow::put)
        .add(&settle::RUNNING, &running, settle::RunningRow::put)
        .add(&SERIAL_WAITING, &waiting, |entry, values| put_waiting(entry, values))
        .add(&settle::EVENTS, &events, settle::EventRow::put);
}

fn put_waiting(entry: &Entry<'_>, values: &mut Values) {
    values.put(entry.seq).put(entry.lane).put(WaitingFor::SerialKey.as_str()).put(None::<i64>);
    values.put(entry.operation.serial_key.as_ref().map(|key| key.digest.to_vec()));
    values.put(None::<u16>).put(None::<Vec<u8>>);
    // The acceptance and the wait are both told.
    Carried { sequence: 2, ..Carried::fresh() }.put(values);
}

fn running_row(entry: &Entry<'_>, node: i64) -> settle::RunningRow {
    let now = entry.operation.accepted_at;
    let carried = Carried::fresh().begun(now);
    settle::RunningRow { seq: entry.seq, lane: entry.lane, node, since: now, carried }
}

fn wait_event(entry: &Entry<'_>, at: Timestamp) -> settle::EventRow {
    settle::EventRow::plain(entry.seq, 2, at, EventKind::Waiting)
}

pub(super) async fn stash(writing: &mut Writing, pieces: &[Piece]) -> Result<(), LedgerError> {
    let mut script = Script::default();
    script.add(&PIECES, pieces, |piece, values| {
        values.put(piece.body.0).put(piece.number).put(piece.octets.to_vec());
    });
    writing.defer(script).await
}
