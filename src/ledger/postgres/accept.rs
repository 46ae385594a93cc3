//! Writing new operations down.

use std::collections::HashMap;

use super::batch::{Statement, Values};
use super::settle::{EVENTS, READY, RUNNING};
use super::writing::{Writing, octets};
use super::{prune, serial};
use crate::domain::OperationId;
use crate::domain::operation::{
    Body, EventKind, IdempotencyClaim, KeyScope, NewOperation, WaitingFor, Work,
};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{
    Carried, Cells, EventRow, ReadyRow, RunningRow, TAG_SEPARATOR, as_micros, delivery_name,
    exactly, id, maybe_id, octets as stored_octets, on_failure_name, put_body,
};
use crate::ledger::store::Batch;
use crate::ledger::verbs::{AcceptVerdict, Acceptance, Piece, Placed};

static OPERATIONS: Statement = Statement::insert(
    "INSERT INTO operations (seq, id, accepted_at, principal, route, lane, method, target, task, delivery, \
     timeout_us, deadline_at, retry_attempts, retry_min_us, retry_max_us, first_is_final, due_at, upstream_key, \
     key_digest, serial_digest, serial_key, parent, root, retry_of, client_reference, tags, on_failure, recheck)",
    "nonotnttttnnnnnfntootoootttt",
);
static REQUESTS: Statement =
    Statement::insert("INSERT INTO requests (seq, fields, body, body_key, body_length)", "noonn");
static CREDENTIALS: Statement = Statement::insert("INSERT INTO credentials (seq, fields)", "no");
static TAGS: Statement =
    Statement::insert_or("INSERT INTO tags (tag, seq)", "tn", "ON CONFLICT DO NOTHING");
static SERIAL_WAITING: Statement = Statement::insert(
    "INSERT INTO waiting (seq, lane, waiting_for, serial_digest, attempts, resumes, rescues, refusals, token, \
     sequence, started_at, percent, message)",
    "nntonnnnnnnnt",
);
static PIECES: Statement = Statement::insert_or(
    "INSERT INTO pieces (body, number, octets, node)",
    "nnon",
    "ON CONFLICT (body, number) DO UPDATE SET octets = EXCLUDED.octets, node = EXCLUDED.node",
);
/// Differs from SQLite because another node may claim the same key at this moment: who
/// comes second waits here for the first, and takes nothing. Sorted, so that no two
/// batches wait for each other.
const CLAIMED: &str = "INSERT INTO idempotency_keys (digest, fingerprint, scope, seq) \
     SELECT * FROM UNNEST($1::bytea[], $2::bytea[], $3::text[], $4::bigint[]) AS k (digest, fingerprint, scope, seq) \
     ORDER BY k.digest ON CONFLICT (digest) DO UPDATE \
     SET fingerprint = EXCLUDED.fingerprint, scope = EXCLUDED.scope, seq = EXCLUDED.seq \
     WHERE idempotency_keys.scope = 'pending' \
     AND EXISTS (SELECT 1 FROM outcomes x WHERE x.seq = idempotency_keys.seq) RETURNING digest";
const STANDING: &str = "SELECT k.digest, k.fingerprint, o.id FROM idempotency_keys k \
     JOIN operations o ON o.seq = k.seq WHERE k.digest = ANY ($1)";
const PARENTS: &str = "SELECT id, principal, root FROM operations WHERE id = ANY ($1)";

/// A new operation with its place and its ties to others.
struct Entry<'a> {
    seq: i64,
    operation: &'a NewOperation,
    lane: i64,
    placed: Placed,
    parent: Option<(OperationId, OperationId)>,
}

pub(super) async fn accept(writing: &mut Writing, batch: &[Acceptance]) -> Batch<AcceptVerdict> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let seqs: Vec<_> = batch.iter().map(|_| writing.place()).collect::<Result<_, _>>()?;
    let mut keys = Keys::claim(writing, batch, &seqs).await?;
    let parents = parents(writing, batch).await?;
    let blocked = serial::blocked_before(writing, batch).await?;
    let mut verdicts = Vec::with_capacity(batch.len());
    let mut entries = Vec::with_capacity(batch.len());
    let mut needless = Vec::new();
    for (Acceptance { operation, hand_off }, seq) in batch.iter().zip(seqs) {
        if let Some(claim) = &operation.idempotency
            && let Some(verdict) = keys.repeat_of(claim, operation.id)?
        {
            // Its pieces were written before anybody knew that it is a repeat.
            needless.extend(operation.work.pieces().map(|key| key.0));
            verdicts.push(verdict);
            continue;
        }
        let serial = operation.serial_key.as_ref();
        let waits = serial.is_some_and(|key| {
            !writing.take(key.digest, seq) && !blocked.passes_on(writing, operation, seq)
        });
        let placed = match (waits, hand_off) {
            (true, _) => Placed::Waiting,
            (false, true) => Placed::Running,
            (false, false) => Placed::Ready,
        };
        let parent =
            operation.parent.and_then(|id| parents.of(id, operation).map(|root| (id, root)));
        let lane = writing.book.number(&operation.lane)?;
        entries.push(Entry { seq, operation, lane, placed, parent });
        verdicts.push(AcceptVerdict::New { seq, placed });
    }
    prune::erase_pieces(writing, needless).await?;
    write(writing, &entries);
    place(writing, &entries);
    Ok(verdicts)
}

/// What stands under the idempotency keys of a batch.
struct Keys(HashMap<[u8; 16], Standing>);

struct Standing {
    fingerprint: [u8; 32],
    id: OperationId,
}

impl Keys {
    /// Claims each key of the batch for the first that names it, and finds out whom it
    /// stands for where it was claimed before.
    async fn claim(
        writing: &mut Writing,
        batch: &[Acceptance],
        seqs: &[i64],
    ) -> Result<Self, LedgerError> {
        let mut firsts = HashMap::new();
        for (acceptance, seq) in batch.iter().zip(seqs) {
            if let Some(claim) = acceptance.operation.idempotency {
                firsts.entry(claim.digest).or_insert((claim, acceptance.operation.id, *seq));
            }
        }
        if firsts.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let mut standing = HashMap::with_capacity(firsts.len());
        for row in &claimed(writing, firsts.values().copied()).await? {
            let digest = exactly(row, "digest")?.unwrap_or_default();
            if let Some((claim, id, _)) = firsts.remove(&digest) {
                standing.insert(digest, Standing { fingerprint: claim.fingerprint, id });
            }
        }
        if !firsts.is_empty() {
            let digests: Vec<_> = firsts.into_keys().collect();
            let rows = writing.rows(STANDING, Values::default().with(octets(&digests))).await?;
            for row in &rows {
                let fingerprint = exactly(row, "fingerprint")?.unwrap_or([0; 32]);
                let digest = exactly(row, "digest")?.unwrap_or_default();
                standing.insert(digest, Standing { fingerprint, id: id(row, "id")? });
            }
        }
        Ok(Self(standing))
    }

    /// The verdict on a repeat; none if the key stands for the operation itself.
    fn repeat_of(
        &mut self,
        claim: &IdempotencyClaim,
        id: OperationId,
    ) -> Result<Option<AcceptVerdict>, LedgerError> {
        // It was removed between two looks at it: another look finds it free.
        let gone = || LedgerError::Contended("an idempotency key was just freed".to_owned());
        let standing = self.0.get(&claim.digest).ok_or_else(gone)?;
        Ok(if standing.id == id {
            None
        } else if standing.fingerprint == claim.fingerprint {
            Some(AcceptVerdict::Replayed(standing.id))
        } else {
            Some(AcceptVerdict::KeyConflict(standing.id))
        })
    }
}

async fn claimed(
    writing: &mut Writing,
    claims: impl Iterator<Item = (IdempotencyClaim, OperationId, i64)>,
) -> Batch<sqlx::postgres::PgRow> {
    let mut digests = Vec::new();
    let mut fingerprints = Vec::new();
    let mut scopes = Vec::new();
    let mut seqs = Vec::new();
    for (claim, _, seq) in claims {
        digests.push(claim.digest.to_vec());
        fingerprints.push(claim.fingerprint.to_vec());
        scopes.push(match claim.scope {
            KeyScope::Retained => "retained",
            KeyScope::Pending => "pending",
        });
        seqs.push(seq);
    }
    let values = Values::default().with(digests).with(fingerprints).with(scopes).with(seqs);
    writing.rows(CLAIMED, values).await
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
    let named: Vec<_> = batch
        .iter()
        .filter_map(|acceptance| Some(acceptance.operation.parent?.as_bytes().to_vec()))
        .collect();
    let mut parents = HashMap::with_capacity(named.len());
    if !named.is_empty() {
        for row in &writing.rows(PARENTS, Values::default().with(named)).await? {
            let parent = id(row, "id")?;
            let root = maybe_id(row, "root")?.unwrap_or(parent);
            parents.insert(parent, (stored_octets(row, "principal")?.to_vec(), root));
        }
    }
    Ok(Parents(parents))
}

/// What each operation is, whatever state it begins in.
fn write(writing: &mut Writing, entries: &[Entry<'_>]) {
    let secret: Vec<_> =
        entries.iter().filter_map(|entry| Some((entry.seq, credentials(entry)?))).collect();
    let tags: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.operation.tags.iter().map(|tag| (tag, entry.seq)))
        .collect();
    writing
        .script
        .add(&OPERATIONS, entries, put_operation)
        .add(&REQUESTS, entries, put_request)
        .add(&CREDENTIALS, &secret, |(seq, fields), cells| {
            cells.number(*seq).octets(fields.clone());
        })
        .add(&TAGS, &tags, |(tag, seq), cells| {
            cells.text((*tag).clone()).number(*seq);
        });
}

fn put_operation(entry: &Entry<'_>, cells: &mut impl Cells) {
    let Entry { seq, operation, lane, parent, .. } = entry;
    let octets = |id: OperationId| id.as_bytes().to_vec();
    cells.number(*seq).octets(octets(operation.id)).number(operation.accepted_at.as_micros());
    cells.octets(operation.principal.as_bytes().to_vec());
    cells.text(operation.route.to_string()).number(*lane);
    match &operation.work {
        Work::Call(request) => {
            cells.text(request.method.as_str().to_owned()).text(request.target.clone()).text(None)
        }
        Work::Task { name, .. } => cells.text(None).text(None).text(name.clone()),
    };
    let policy = &operation.policy;
    cells.text(delivery_name(policy.delivery).to_owned());
    cells.number(as_micros(policy.timeout)).number(policy.deadline_at.as_micros());
    cells.number(i64::from(policy.retry.attempts));
    cells.number(as_micros(policy.retry.min)).number(as_micros(policy.retry.max));
    cells.flag(policy.first_answer_is_final).number(operation.due_at.as_micros());
    cells.text(operation.upstream_key.clone());
    cells.octets(operation.idempotency.map(|claim| claim.digest.to_vec()));
    cells.octets(operation.serial_key.as_ref().map(|key| key.digest.to_vec()));
    cells.text(operation.serial_key.as_ref().map(|key| key.text.clone()));
    cells.octets(parent.map(|(id, _)| octets(id))).octets(parent.map(|(_, root)| octets(root)));
    cells.octets(operation.retry_of.map(octets)).text(operation.client_reference.clone());
    cells.text((!operation.tags.is_empty()).then(|| operation.tags.join(TAG_SEPARATOR)));
    cells.text(on_failure_name(policy).map(str::to_owned));
    cells.text(policy.recheck.as_ref().map(|recheck| recheck.target().to_owned()));
}

fn put_request(entry: &Entry<'_>, cells: &mut impl Cells) {
    cells.number(entry.seq);
    match &entry.operation.work {
        Work::Call(request) => {
            cells.octets(request.fields.encode());
            put_body(&request.body, cells);
        }
        Work::Task { arguments, .. } => {
            cells.octets(Vec::new());
            put_body(&Body::Inline(arguments.clone()), cells);
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
fn place(writing: &mut Writing, entries: &[Entry<'_>]) {
    let node = writing.book.incarnation;
    let of = |placed| entries.iter().filter(move |entry| entry.placed == placed);
    let ready: Vec<_> = of(Placed::Ready)
        .map(|entry| ReadyRow::new(entry.seq, entry.lane, entry.operation.due_at))
        .collect();
    let running: Vec<_> = of(Placed::Running).map(|entry| running_row(entry, node)).collect();
    let waiting: Vec<_> = of(Placed::Waiting).collect();
    let started = running.iter().map(RunningRow::started);
    let waits = waiting.iter().map(|entry| {
        EventRow::plain(entry.seq, 2, entry.operation.accepted_at, EventKind::Waiting)
    });
    let events: Vec<_> = started.chain(waits).collect();
    writing
        .script
        .add(&READY, &ready, ReadyRow::put)
        .add(&RUNNING, &running, RunningRow::put)
        .add(&SERIAL_WAITING, &waiting, |entry, cells| put_waiting(entry, cells))
        .add(&EVENTS, &events, EventRow::put);
}

fn put_waiting(entry: &Entry<'_>, cells: &mut impl Cells) {
    cells.number(entry.seq).number(entry.lane).text(WaitingFor::SerialKey.as_str().to_owned());
    cells.octets(entry.operation.serial_key.as_ref().map(|key| key.digest.to_vec()));
    // The acceptance and the wait are both told.
    Carried { sequence: 2, ..Carried::fresh() }.put(cells);
}

fn running_row(entry: &Entry<'_>, node: i64) -> RunningRow {
    let now = entry.operation.accepted_at;
    let carried = Carried::fresh().begun(now);
    RunningRow { seq: entry.seq, lane: entry.lane, node, since: now, carried }
}

pub(super) async fn stash(writing: &mut Writing, pieces: &[Piece]) -> Result<(), LedgerError> {
    let node = writing.book.incarnation;
    writing.script.add(&PIECES, pieces, |piece, cells| {
        let cells = cells.number(piece.body.0).number(i64::from(piece.number));
        cells.octets(piece.octets.to_vec()).number(node);
    });
    writing.flush().await
}

/// What is locked before a batch of acceptances is looked at.
pub(super) fn serial_digests(batch: &[Acceptance]) -> impl Iterator<Item = [u8; 16]> {
    batch.iter().filter_map(|acceptance| Some(acceptance.operation.serial_key.as_ref()?.digest))
}
