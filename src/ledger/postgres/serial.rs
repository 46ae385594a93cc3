//! Serial keys that a failure blocks, and those that somebody holds. What is blocked
//! changes only while the key is locked.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{Statement, Values};
use super::finish::go_next;
use super::pool::Pool;
use super::writing::{Writing, octets};
use crate::domain::operation::NewOperation;
use crate::domain::{OperationId, Timestamp};
use crate::ledger::error::LedgerError;
use crate::ledger::rows::{self, Cells, exactly, id, number};
use crate::ledger::store::Batch;
use crate::ledger::verbs::{Acceptance, KeyInUse, KeyListing, Moved, SerialName, Unblocked};

static BLOCKED: Statement = Statement::reading(
    "INSERT INTO blocked_keys (digest, seq, operation, serial_key, upstream, blocked_at) \
     SELECT o.serial_digest, o.seq, o.id, o.serial_key, l.upstream, b.at FROM (",
    "nn",
    ") AS b (seq, at) JOIN operations o ON o.seq = b.seq JOIN lanes l ON l.lane = o.lane \
     ON CONFLICT (digest) DO UPDATE SET seq = EXCLUDED.seq, operation = EXCLUDED.operation, \
     serial_key = EXCLUDED.serial_key, upstream = EXCLUDED.upstream, blocked_at = EXCLUDED.blocked_at",
);
static BLOCKED_GONE: Statement = Statement::reading(
    "DELETE FROM blocked_keys AS b USING (",
    "o",
    ") AS gone (digest) WHERE b.digest = gone.digest",
);
const BLOCKED_BY: &str = "SELECT digest, seq, operation FROM blocked_keys WHERE digest = ANY ($1)";
macro_rules! keys {
    ($from:literal) => {
        concat!(
            "SELECT k.digest, o.id AS holder, coalesce(b.serial_key, o.serial_key) AS key_text, \
             coalesce(b.upstream, l.upstream) AS upstream, b.operation AS blocked_by, b.blocked_at, \
             (SELECT count(*) FROM (SELECT 1 FROM waiting w WHERE w.serial_digest = k.digest LIMIT 1000) AS counted) \
             AS waiting ",
            $from,
            " LEFT JOIN operations o ON o.seq = k.seq LEFT JOIN lanes l ON l.lane = o.lane \
             WHERE k.digest > $1 ORDER BY k.digest LIMIT $2"
        )
    };
}
const ALL: &str =
    keys!("FROM serial_keys k LEFT JOIN blocked_keys b ON b.digest = k.digest AND b.seq = k.seq");
const ONLY_BLOCKED: &str =
    keys!("FROM blocked_keys b JOIN serial_keys k ON k.digest = b.digest AND k.seq = b.seq");

/// Keeps the key of an operation that failed and holds it.
pub(super) fn block(writing: &mut Writing, seq: i64, at: Timestamp) {
    writing.script.add(&BLOCKED, &[(seq, at)], |(seq, at), cells| {
        cells.number(*seq).number(at.as_micros());
    });
}

/// Who blocks the keys of a batch's repeats by hand.
pub(super) struct BlockedBefore(HashMap<[u8; 16], (i64, OperationId)>);

/// Looks for what blocks the keys of operations that repeat others by hand. Their keys are
/// locked.
pub(super) async fn blocked_before(
    writing: &mut Writing,
    batch: &[Acceptance],
) -> Result<BlockedBefore, LedgerError> {
    let repeats = batch.iter().filter(|acceptance| acceptance.operation.retry_of.is_some());
    let digests: Vec<_> = repeats
        .filter_map(|acceptance| Some(acceptance.operation.serial_key.as_ref()?.digest))
        .collect();
    blockers(writing, &digests).await.map(BlockedBefore)
}

async fn blockers(
    writing: &mut Writing,
    digests: &[[u8; 16]],
) -> Result<HashMap<[u8; 16], (i64, OperationId)>, LedgerError> {
    let mut found = HashMap::new();
    if !digests.is_empty() {
        let rows = writing.rows(BLOCKED_BY, Values::default().with(octets(digests))).await?;
        for row in &rows {
            let digest = exactly(row, "digest")?.unwrap_or_default();
            found.insert(digest, (number(row, "seq")?, id(row, "operation")?));
        }
    }
    Ok(found)
}

impl BlockedBefore {
    /// Lets a new operation have a key that the one blocks which it repeats; false if that
    /// one does not block it.
    pub(super) fn passes_on(
        &self,
        writing: &mut Writing,
        operation: &NewOperation,
        seq: i64,
    ) -> bool {
        let Some(digest) = operation.serial_key.as_ref().map(|key| key.digest) else {
            return false;
        };
        let Some((blocker, former)) = self.0.get(&digest) else { return false };
        if operation.retry_of.map(|retry| retry.of) != Some(*former)
            || !writing.pass_on(digest, *blocker, seq)
        {
            return false;
        }
        forget(writing, digest);
        true
    }
}

fn forget(writing: &mut Writing, digest: [u8; 16]) {
    writing.script.add(&BLOCKED_GONE, &[digest], |digest, cells| {
        cells.octets(digest.to_vec());
    });
}

pub(super) async fn unblock(
    writing: &mut Writing,
    name: SerialName,
    now: Timestamp,
    moved: &mut Moved,
) -> Result<Unblocked, LedgerError> {
    let SerialName(digest) = name;
    writing.lock(vec![digest]).await?;
    let Some((blocker, _)) = blockers(writing, &[digest]).await?.remove(&digest) else {
        return Ok(Unblocked::NotBlocked);
    };
    if !writing.release(digest, blocker) {
        return Ok(Unblocked::NotBlocked);
    }
    forget(writing, digest);
    let before = moved.released.len();
    go_next(writing, &[(digest, now)], moved).await?;
    Ok(Unblocked::Done(moved.released.get(before).copied()))
}

pub(super) async fn keys(pool: &Arc<Pool>, listing: KeyListing) -> Batch<KeyInUse> {
    let sql = if listing.blocked { ONLY_BLOCKED } else { ALL };
    let after = listing.after.map_or_else(Vec::new, |SerialName(digest)| digest.to_vec());
    let values = Values::default().with(after).with(listing.limit as i64).finish()?;
    pool.read(sql, values).await?.iter().map(rows::key_in_use).collect()
}
