//! The insert of new operations.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::cluster::limits::shares::stored as whole;
use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::{
    ReadRow, RunState, StoredWork, TAG_SEPARATOR, as_micros, damaged, delivery_name, fingerprint,
    id, maybe_id, octets, on_failure_name, stored_piece, text,
};
use crate::db::sqlite::writer::{Values, Writer};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{AcceptVerdict, Acceptance, Piece, Placed};
use crate::operations::prune::sqlite as prune;
use crate::operations::retried::sqlite as retried;
use crate::operations::serial_keys::sqlite as serial;
use crate::operations::settle::sqlite as settle;
use crate::store::Batch;
use crate::webhooks::callback_receiver::callback_of;
use crate::webhooks::sql::PendingEvent;
use cloakroom_domain::operation::{
    EventKind, Fingerprint, IdempotencyClaim, KeyScope, NewOperation, Recheck, WaitingFor, Work,
};
use cloakroom_domain::webhooks::{Callback, Topic};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    const OPERATIONS: &str = r"
        INSERT INTO operations (seq, id, accepted_at, principal, route, lane, method,
            target, octets, delivery, timeout_us, deadline_at, retry_attempts, retry_min_us,
            retry_max_us, wait_us, due_at, task, upstream_key, key_digest, serial_digest,
            serial_key, parent, root, retry_of, client_reference, tags, on_failure, recheck,
            success, retry_statuses, callback_receiver, callback_url, callback_events)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
            ?, ?, ?, ?, ?, ?, ?, ?, ?)";

    const REQUESTS: &str = r"
        INSERT INTO requests (seq, fields, body, body_key, body_length)
        VALUES (?, ?, ?, ?, ?)";

    const CREDENTIALS: &str = r"INSERT INTO credentials (seq, fields) VALUES (?, ?)";
    const TAGS: &str = r"INSERT OR IGNORE INTO tags (tag, seq) VALUES (?, ?)";

    const KEYS: &str = r"
        INSERT OR REPLACE INTO idempotency_keys (digest, fingerprint, scope, seq)
        VALUES (?, ?, ?, ?)";

    const SERIAL: &str = r"INSERT INTO serial_keys (digest, seq) VALUES (?, ?)";

    const SERIAL_WAITING: &str = r"
        INSERT INTO waiting (seq, lane, waiting_for, deadline_at, serial_digest, turn_at,
            delayed_until, version, continuation, attempts, resumes, rescues, refusals,
            contact, last_try, token, sequence, started_at, percent, message)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

    const PIECES: &str = r"
        INSERT OR REPLACE INTO pieces (body, number, octets, node, written_at)
        VALUES (?, ?, ?, ?, ?)";

    const STANDING_KEYS: &str = r"
        SELECT k.digest, k.fingerprint, k.scope, o.id, (x.seq IS NOT NULL
            OR coalesce(u.cancel, 0) > 0) AS over
        FROM idempotency_keys k
        JOIN operations o ON o.seq = k.seq
        LEFT JOIN outcomes x ON x.seq = k.seq
        LEFT JOIN running u ON u.seq = k.seq
        WHERE k.digest = ?";

    const PARENTS: &str = r"SELECT id, principal, root FROM operations WHERE id = ?";

    /// A key that an operation holds, or whose next holder was delayed until now.
    const HELD: &str = r"
        SELECT ?1 AS digest
        WHERE EXISTS (SELECT 1 FROM serial_keys WHERE digest = ?1) OR EXISTS (
            SELECT 1
            FROM waiting
            WHERE serial_digest = ?1 AND turn_at <= ?2 AND delayed_until IS NOT NULL
        )";
}

/// A new operation with its place and its ties to others.
struct Entry<'a> {
    seq: i64,
    operation: &'a NewOperation,
    lane: i64,
    placed: Placed,
    parent: Option<(OperationId, OperationId)>,
    callback: Option<Cow<'a, Callback>>,
    stored: StoredWork,
}

pub(crate) async fn accept(
    writing: &mut SqliteTransaction,
    batch: &[Acceptance],
) -> Batch<AcceptVerdict> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys = standing_keys(writing, batch)?;
    let parents = parents(writing, batch)?;
    let mut held = held_serial_keys(writing, batch)?;
    let mut retried = retried::Retried::default();
    let mut verdicts = Vec::with_capacity(batch.len());
    let mut entries = Vec::with_capacity(batch.len());
    for acceptance in batch {
        let Acceptance { operation, hand_off, .. } = acceptance;
        if let Some(verdict) =
            operation.idempotency.as_ref().and_then(|claim| repeat_of(&mut keys, claim, operation))
        {
            // Its pieces were written before anybody knew that it is a repeat.
            if let Some(key) = operation.work.pieces() {
                prune::erase_pieces(writing, key.0)?;
            }
            verdicts.push(verdict);
            continue;
        }
        if let Some(retry) = operation.retry_of
            && let Some(standing) = retried.refuse(writing, retry, operation.id)?
        {
            if let Some(key) = operation.work.pieces() {
                prune::erase_pieces(writing, key.0)?;
            }
            verdicts.push(AcceptVerdict::Retried(standing));
            continue;
        }
        let seq = writing.next_seq;
        writing.next_seq += 1;
        let waits = match &operation.serial_key {
            Some(key) if held.contains(&key.digest) => {
                !serial::passes_on(writing, key.digest, operation)?
            }
            // It holds the key from its time on: until then others may.
            Some(_) if operation.is_delayed() => true,
            Some(key) => !held.insert(key.digest),
            None => false,
        };
        let placed = match (waits, hand_off) {
            (true, _) => Placed::Waiting,
            (false, true) => Placed::Running,
            (false, false) => Placed::Ready,
        };
        let parent =
            operation.parent.and_then(|id| parents.of(id, operation).map(|root| (id, root)));
        let callback = callback_of(writing, acceptance).await?;
        let url = callback.as_ref().map(|callback| callback.url.as_str());
        let stored = StoredWork::of(operation, url, &writing.book.sealer)?;
        entries.push(Entry {
            seq,
            operation,
            lane: writing.book.number(&operation.lane)?,
            placed,
            parent,
            callback,
            stored,
        });
        verdicts.push(AcceptVerdict::New { seq, placed });
    }
    write(&mut writing.writer, &entries)?;
    place(&mut writing.writer, &entries, writing.book.incarnation)?;
    let accepted = entries.iter().map(|entry| accepted(entry));
    writing.writer.told.extend(accepted);
    Ok(verdicts)
}

/// What stands under an idempotency key.
struct Standing {
    fingerprint: Fingerprint,
    id: OperationId,
    /// It does not count: it was to count only while pending, and has ended or is called off.
    over: bool,
}

fn standing_keys(
    writing: &mut SqliteTransaction,
    batch: &[Acceptance],
) -> Result<HashMap<[u8; 16], Standing>, LedgerError> {
    let digests: Vec<_> = batch
        .iter()
        .filter_map(|acceptance| Some(acceptance.operation.idempotency?.digest))
        .collect();
    let rows = writing.writer.all_of_each(STANDING_KEYS, &digests, |digest, values| {
        values.put(digest);
    })?;
    let mut standing = HashMap::with_capacity(digests.len());
    for row in &rows {
        let digest = octets(row, "digest")?.try_into().map_err(damaged)?;
        let over = text(row, "scope")? == "pending" && row.flag("over")?;
        let fingerprint = fingerprint(row)?;
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
            let differs = standing.fingerprint.differences(&claim.fingerprint);
            AcceptVerdict::KeyConflict { of: standing.id, differs }
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

fn parents(writing: &mut SqliteTransaction, batch: &[Acceptance]) -> Result<Parents, LedgerError> {
    let named: Vec<_> = batch.iter().filter_map(|acceptance| acceptance.operation.parent).collect();
    let rows = writing.writer.all_of_each(PARENTS, &named, |id, values| {
        values.put(id.as_bytes());
    })?;
    let mut parents = HashMap::with_capacity(rows.len());
    for row in &rows {
        let parent = id(row, "id")?;
        let root = maybe_id(row, "root")?.unwrap_or(parent);
        parents.insert(parent, (octets(row, "principal")?.to_vec(), root));
    }
    Ok(Parents(parents))
}

fn held_serial_keys(
    writing: &mut SqliteTransaction,
    batch: &[Acceptance],
) -> Result<HashSet<[u8; 16]>, LedgerError> {
    let digests: Vec<_> = batch
        .iter()
        .map(|acceptance| &acceptance.operation)
        .filter_map(|new| Some((new.serial_key.as_ref()?.digest, new.accepted_at)))
        .collect();
    let rows = writing.writer.all_of_each(HELD, &digests, |(digest, now), values| {
        values.put(digest).put(now.as_micros());
    })?;
    rows.iter().map(|row| octets(row, "digest")?.try_into().map_err(damaged)).collect()
}

/// What each operation is, whatever state it begins in.
fn write(writer: &mut Writer, entries: &[Entry<'_>]) -> Result<(), LedgerError> {
    let secret =
        entries.iter().filter_map(|entry| Some((entry.seq, entry.stored.credentials.as_deref()?)));
    let secret: Vec<_> = secret.collect();
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
    writer.each(OPERATIONS, entries, put_operation)?;
    writer.each(REQUESTS, entries, put_request)?;
    writer.each(CREDENTIALS, &secret, |(seq, fields), values| {
        values.put(seq).put(fields);
    })?;
    writer.each(TAGS, &tags, |(tag, seq), values| {
        values.put(tag).put(seq);
    })?;
    writer.each(KEYS, &keys, |(claim, seq), values| {
        let scope = match claim.scope {
            KeyScope::Retained => "retained",
            KeyScope::Pending => "pending",
        };
        values.put(claim.digest).put(*claim.fingerprint.as_bytes()).put(scope).put(seq);
    })?;
    writer.each(SERIAL, &serial, |(digest, seq), values| {
        values.put(digest).put(seq);
    })?;
    Ok(())
}

fn put_operation(entry: &Entry<'_>, values: &mut Values<'_, '_>) {
    let Entry { seq, operation, lane, parent, stored, .. } = entry;
    values.put(seq).put(operation.id.as_bytes()).put(operation.accepted_at.as_micros());
    values.put(operation.principal.as_bytes()).put(&*operation.route).put(lane);
    let (method, task) = match &operation.work {
        Work::Call(request) => (Some(request.method.as_str()), None),
        Work::Task { name, .. } => (None, Some(&**name)),
    };
    values.put(method).put(stored.target.as_deref()).put(whole(operation.work.octets()));
    let policy = &operation.policy;
    values
        .put(delivery_name(policy.delivery))
        .put(as_micros(policy.timeout))
        .put(policy.deadline_at.as_micros());
    values
        .put(policy.retry.attempts)
        .put(as_micros(policy.retry.min))
        .put(as_micros(policy.retry.max));
    values.put(policy.wait.map(as_micros)).put(operation.due_at.as_micros());
    values.put(task).put(stored.upstream_key.as_deref());
    values.put(operation.idempotency.map(|claim| claim.digest));
    values.put(operation.serial_key.as_ref().map(|key| key.digest));
    values.put(operation.serial_key.as_ref().map(|key| &*key.text));
    values.put(parent.as_ref().map(|(id, _)| id.as_bytes()));
    values.put(parent.as_ref().map(|(_, root)| root.as_bytes()));
    values.put(operation.retry_of.as_ref().map(|retry| retry.of.as_bytes()));
    values.put(operation.client_reference.as_deref());
    values.put((!operation.tags.is_empty()).then(|| operation.tags.join(TAG_SEPARATOR)));
    values.put(on_failure_name(policy)).put(policy.recheck.as_ref().map(Recheck::target));
    values.put(policy.success.as_ref().map(ToString::to_string));
    values.put(policy.retry.statuses.as_ref().map(ToString::to_string));
    let callback = entry.callback.as_ref();
    values.put(callback.map(|callback| callback.receiver.0));
    values.put(stored.callback_url.as_deref());
    values.put(callback.map(|callback| callback.topics.bits()));
}

fn put_request(entry: &Entry<'_>, values: &mut Values<'_, '_>) {
    let StoredWork { fields, body, .. } = &entry.stored;
    body.put(values.put(entry.seq).put(&**fields));
}

/// The first of its events, which has no row of its own.
fn accepted(entry: &Entry<'_>) -> PendingEvent {
    let at = entry.operation.accepted_at;
    PendingEvent { seq: entry.seq, sequence: 1, topic: Topic::Accepted, at }
}

/// Puts each operation into the state that it begins in.
fn place(writer: &mut Writer, entries: &[Entry<'_>], node: i64) -> Result<(), LedgerError> {
    let of = |placed| entries.iter().filter(move |entry| entry.placed == placed);
    let ready: Vec<_> = of(Placed::Ready)
        .map(|entry| settle::ReadyRow::new(entry.seq, entry.lane, entry.operation.due_at))
        .collect();
    let running: Vec<_> = of(Placed::Running).map(|entry| running_row(entry, node)).collect();
    let waiting: Vec<_> = of(Placed::Waiting).collect();
    let started = running.iter().map(settle::RunningRow::started);
    let waits = of(Placed::Waiting).filter(|entry| !entry.operation.is_delayed());
    let waits = waits.map(|entry| wait_event(entry, entry.operation.accepted_at));
    let events: Vec<_> = started.chain(waits).collect();
    writer.each(settle::READY, &ready, |row, values| row.put(values))?;
    writer.each(settle::RUNNING, &running, |row, values| row.put(values))?;
    writer.each(SERIAL_WAITING, &waiting, |entry, values| put_waiting(entry, values))?;
    writer.events(&events)
}

fn put_waiting(entry: &Entry<'_>, values: &mut Values<'_, '_>) {
    values.put(entry.seq).put(entry.lane).put(WaitingFor::SerialKey.as_str());
    values.put(entry.operation.policy.deadline_at.as_micros());
    values.put(entry.operation.serial_key.as_ref().map(|key| key.digest));
    let turn = entry.operation.is_delayed().then(|| entry.operation.due_at.as_micros());
    values.put(turn).put(turn);
    values.put(None::<u16>).put(None::<Vec<u8>>);
    let fresh = RunState::fresh();
    // The acceptance and the wait are both told; a delay is no wait.
    let told = if turn.is_some() { fresh.sequence } else { 2 };
    RunState { sequence: told, ..fresh }.put(values);
}

fn running_row(entry: &Entry<'_>, node: i64) -> settle::RunningRow {
    let now = entry.operation.accepted_at;
    let carried = RunState::fresh().begun(now);
    settle::RunningRow { seq: entry.seq, lane: entry.lane, node, since: now, carried }
}

fn wait_event(entry: &Entry<'_>, at: Timestamp) -> settle::EventRow {
    settle::EventRow::plain(entry.seq, 2, at, EventKind::Waiting)
}

pub(crate) fn stash(
    writing: &mut SqliteTransaction,
    pieces: &[Piece],
    now: Timestamp,
) -> Result<(), LedgerError> {
    let node = writing.book.incarnation;
    let stored = |piece| Ok((piece, stored_piece(piece, &writing.book.sealer)?));
    let stored = pieces.iter().map(stored).collect::<Result<Vec<_>, LedgerError>>()?;
    let bind = |(piece, octets): &(&Piece, Bytes), values: &mut Values<'_, '_>| {
        values.put(piece.body.0).put(piece.number).put(&**octets);
        values.put(node).put(now.as_micros());
    };
    writing.writer.each(PIECES, &stored, bind).map(drop)
}
