//! The insert of new operations.

use std::collections::HashMap;

use bytes::Bytes;

use crate::db::postgres::arrays::{Columns, Statement, Values};
use crate::db::postgres::transaction::{PgTransaction, octets};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::{AcceptVerdict, Acceptance, Piece, Placed};
use crate::operations::accept::insert::{self, OperationInsert};
use crate::operations::prune::postgres as prune;
use crate::operations::retried::postgres as retried;
use crate::operations::serial_keys::postgres as serial;
use crate::rows::{
    BindRow, StoredWork, damaged, exactly, fingerprint, id, maybe_id, number,
    octets as stored_octets, stored_piece,
};
use crate::store::Batch;
use crate::webhooks::callback_receiver::callback_of;
use cloakroom_domain::operation::{Fingerprint, IdempotencyClaim, KeyScope, NewOperation};
use cloakroom_domain::{OperationId, Timestamp};

statements! {
    static PIECES: Statement = Statement::insert_or(
        r"INSERT INTO pieces",
        "body, number, octets, node, written_at",
        "nnonc",
        r"ON CONFLICT (body, number) DO UPDATE SET octets = EXCLUDED.octets,
            node = EXCLUDED.node, written_at = EXCLUDED.written_at",
    );

    /// Differs from SQLite because another node may claim the same key at this moment: who
    /// comes second waits here for the first, and takes nothing. Sorted, so that no two
    /// batches wait for each other.
    const CLAIMED: &str = r"
        INSERT INTO idempotency_keys (digest, fingerprint, scope, seq)
        SELECT *
        FROM UNNEST($1::bytea[], $2::bytea[], $3::text[], $4::bigint[]) AS k (digest,
            fingerprint, scope, seq)
        ORDER BY k.digest
        ON CONFLICT (digest) DO UPDATE SET fingerprint = EXCLUDED.fingerprint,
            scope = EXCLUDED.scope, seq = EXCLUDED.seq
        WHERE idempotency_keys.scope = 'pending'
            AND (EXISTS (SELECT 1 FROM outcomes x WHERE x.seq = idempotency_keys.seq)
                OR EXISTS (
            SELECT 1 FROM running u WHERE u.seq = idempotency_keys.seq AND u.cancel <> 0
        ))
        RETURNING digest";

    const STANDING: &str = r"
        SELECT k.digest, k.fingerprint, o.id
        FROM idempotency_keys k
        JOIN operations o ON o.seq = k.seq
        WHERE k.digest = ANY ($1)";

    /// Keys that name an operation that is not there.
    const STRAYS: &str = r"
        SELECT k.digest, k.seq
        FROM idempotency_keys k
        WHERE k.digest = ANY ($1)
            AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.seq = k.seq)";

    /// Names the operation that was missing: the key may be another one's by now.
    const STRAYS_GONE: &str = r"
        DELETE FROM idempotency_keys k USING UNNEST($1::bytea[],
            $2::bigint[]) AS stray (digest, seq)
        WHERE k.digest = stray.digest AND k.seq = stray.seq";

    const PARENTS: &str = r"SELECT id, principal, root FROM operations WHERE id = ANY ($1)";
}

pub(crate) async fn accept(
    writing: &mut PgTransaction,
    batch: &[Acceptance],
) -> Batch<AcceptVerdict> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let places = writing.places(batch.len());
    let mut keys = Keys::claim(writing, batch, &places).await?;
    let parents = parents(writing, batch).await?;
    let blocked = serial::blocked_before(writing, batch).await?;
    let mut retried = retried::Retried::of(writing, batch).await?;
    let mut repeats = Vec::with_capacity(batch.len());
    let mut new = Vec::with_capacity(batch.len());
    let mut needless = Vec::new();
    for (acceptance, taken) in batch.iter().zip(places) {
        let Acceptance { operation, hand_off, .. } = acceptance;
        if let Some(claim) = &operation.idempotency
            && let Some(verdict) = keys.repeat_of(claim, operation.id)?
        {
            // Its pieces were written before anybody knew that it is a repeat.
            needless.extend(operation.work.pieces().map(|key| key.0));
            repeats.push(Some(verdict));
            continue;
        }
        if let Some(retry) = operation.retry_of
            && let Some(standing) = retried.refuse(retry, operation.id)
        {
            needless.extend(operation.work.pieces().map(|key| key.0));
            repeats.push(Some(AcceptVerdict::Retried(standing)));
            continue;
        }
        let waits = match (&operation.serial_key, taken) {
            (Some(key), Some(seq)) if writing.is_free(key.digest) => {
                // A delayed one holds the key from its time on: until then others may.
                operation.is_delayed()
                    || writing.is_next_due(key.digest, operation.accepted_at).await?
                    || !writing.take(key.digest, seq)
            }
            (Some(key), Some(seq)) => {
                !writing.take(key.digest, seq) && !blocked.passes_on(writing, operation, seq)
            }
            _ => false,
        };
        let placed = match (waits, hand_off) {
            (true, _) => Placed::Waiting,
            (false, true) => Placed::Running,
            (false, false) => Placed::Ready,
        };
        let parent =
            operation.parent.and_then(|id| parents.of(id, operation).map(|root| (id, root)));
        let lane = writing.book.number(&operation.lane)?;
        let callback = callback_of(writing, acceptance).await?;
        let url = callback.as_ref().map(|callback| callback.url.as_str());
        let stored = StoredWork::of(operation, url, &writing.book.sealer)?;
        new.push(OperationInsert { taken, operation, lane, placed, parent, callback, stored });
        repeats.push(None);
    }
    prune::erase_pieces(writing, needless).await?;
    let seqs = insert::write(writing, &new).await?;
    let mut written = seqs.into_iter().zip(new);
    let told = |repeat: Option<AcceptVerdict>| {
        let fresh =
            |(seq, new): (i64, OperationInsert<'_>)| AcceptVerdict::New { seq, placed: new.placed };
        repeat.or_else(|| written.next().map(fresh)).ok_or_else(|| damaged("no place was taken"))
    };
    repeats.into_iter().map(told).collect()
}

/// Whether receivers of callbacks may have to be made, which is more than one statement.
pub(crate) fn makes_callbacks(batch: &[Acceptance]) -> bool {
    batch.iter().any(|acceptance| acceptance.first.is_some())
}

/// Whether the places of a batch have to be known before it is written: keys name them.
pub(crate) fn needs_places(batch: &[Acceptance]) -> bool {
    let keyed = |operation: &NewOperation| {
        operation.idempotency.is_some()
            || operation.serial_key.is_some()
            || operation.retry_of.is_some()
    };
    batch.iter().any(|acceptance| keyed(&acceptance.operation))
}

/// What stands under the idempotency keys of a batch.
struct Keys(HashMap<[u8; 16], Standing>);

struct Standing {
    fingerprint: Fingerprint,
    id: OperationId,
}

impl Keys {
    /// Claims each key of the batch for the first that names it, and finds out whom it
    /// stands for where it was claimed before.
    async fn claim(
        writing: &mut PgTransaction,
        batch: &[Acceptance],
        places: &[Option<i64>],
    ) -> Result<Self, LedgerError> {
        let mut firsts = HashMap::new();
        for (acceptance, place) in batch.iter().zip(places) {
            if let (Some(claim), Some(seq)) = (acceptance.operation.idempotency, *place) {
                firsts.entry(claim.digest).or_insert((claim, acceptance.operation.id, seq));
            }
        }
        if firsts.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let mut standing = HashMap::with_capacity(firsts.len());
        take(writing, &mut firsts, &mut standing).await?;
        if !firsts.is_empty() {
            let digests: Vec<_> = firsts.keys().copied().collect();
            let rows = writing.rows(STANDING, Values::default().with(octets(&digests))).await?;
            for row in &rows {
                let fingerprint = fingerprint(row)?;
                let digest = exactly(row, "digest")?.unwrap_or_default();
                firsts.remove(&digest);
                standing.insert(digest, Standing { fingerprint, id: id(row, "id")? });
            }
        }
        if !firsts.is_empty() && forget_strays(writing, &firsts).await? {
            take(writing, &mut firsts, &mut standing).await?;
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
            let differs = standing.fingerprint.differences(&claim.fingerprint);
            Some(AcceptVerdict::KeyConflict { of: standing.id, differs })
        })
    }
}

/// The first claims of keys, by their digests, with the places of their operations.
type Firsts = HashMap<[u8; 16], (IdempotencyClaim, OperationId, i64)>;

/// Takes those keys that can be taken.
async fn take(
    writing: &mut PgTransaction,
    firsts: &mut Firsts,
    standing: &mut HashMap<[u8; 16], Standing>,
) -> Result<(), LedgerError> {
    for row in &claimed(writing, firsts.values().copied()).await? {
        let digest = exactly(row, "digest")?.unwrap_or_default();
        if let Some((claim, id, _)) = firsts.remove(&digest) {
            standing.insert(digest, Standing { fingerprint: claim.fingerprint, id });
        }
    }
    Ok(())
}

/// Deletes those of these keys that stand for no operation; false if there are none.
async fn forget_strays(writing: &mut PgTransaction, firsts: &Firsts) -> Result<bool, LedgerError> {
    let digests: Vec<_> = firsts.keys().copied().collect();
    let rows = writing.rows(STRAYS, Values::default().with(octets(&digests))).await?;
    let (mut strays, mut seqs) = (Vec::new(), Vec::new());
    for row in &rows {
        strays.push(exactly::<16>(row, "digest")?.unwrap_or_default());
        seqs.push(number::<i64>(row, "seq")?);
    }
    if strays.is_empty() {
        return Ok(false);
    }
    tracing::warn!(count = strays.len(), "idempotency keys stood for no operation and were freed");
    writing.run(STRAYS_GONE, Values::default().with(octets(&strays)).with(seqs)).await?;
    Ok(true)
}

async fn claimed(
    writing: &mut PgTransaction,
    claims: impl Iterator<Item = (IdempotencyClaim, OperationId, i64)>,
) -> Batch<sqlx::postgres::PgRow> {
    let mut digests = Vec::new();
    let mut fingerprints = Vec::new();
    let mut scopes = Vec::new();
    let mut seqs = Vec::new();
    for (claim, _, seq) in claims {
        digests.push(claim.digest.to_vec());
        fingerprints.push(claim.fingerprint.as_bytes().to_vec());
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

async fn parents(
    writing: &mut PgTransaction,
    batch: &[Acceptance],
) -> Result<Parents, LedgerError> {
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

pub(crate) async fn stash(
    writing: &mut PgTransaction,
    pieces: &[Piece],
    now: Timestamp,
) -> Result<(), LedgerError> {
    let node = writing.book.incarnation;
    let stored = |piece| Ok((piece, stored_piece(piece, &writing.book.sealer)?));
    let stored = pieces.iter().map(stored).collect::<Result<Vec<_>, LedgerError>>()?;
    let bind = |(piece, octets): &(&Piece, Bytes), cells: &mut Columns| {
        let cells = cells.number(piece.body.0).number(i64::from(piece.number));
        cells.octets(octets.to_vec()).number(node).number(now.as_micros());
    };
    writing.script.add(&PIECES, &stored, bind);
    writing.flush().await
}

/// What is locked before a batch of acceptances is looked at.
pub(crate) fn serial_digests(batch: &[Acceptance]) -> impl Iterator<Item = [u8; 16]> {
    batch.iter().filter_map(|acceptance| Some(acceptance.operation.serial_key.as_ref()?.digest))
}
