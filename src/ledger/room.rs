//! Whether there is room in a queue, where what is counted says that there is none.
//!
//! Owns the second look before somebody is refused. Its invariants: a key that the ledger
//! knows is answered with its operation however full the queue is; and where others count
//! too, nobody is refused by a count that was not compared with rows within a second or so.
//! Rows are counted no further than decides the matter, apart from what is being accepted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::LedgerError;
use super::rows::{Stored, fingerprint, id};
use super::shared::Shared;
use super::verbs::Accepted;
use crate::domain::OperationId;
use crate::domain::operation::{Fingerprint, IdempotencyClaim, NewOperation};

/// How long a look at rows holds.
const HOLDS: Duration = Duration::from_secs(1);
/// Looking may take one part in so many of the time.
const SHARE: u32 = 10;

/// Whom a key stands for, if for anybody any more.
pub(super) const STANDING: &str = "SELECT o.id, k.fingerprint FROM idempotency_keys k \
     JOIN operations o ON o.seq = k.seq WHERE k.digest = $1 \
     AND NOT (k.scope = 'pending' AND (EXISTS (SELECT 1 FROM outcomes x WHERE x.seq = k.seq) \
     OR EXISTS (SELECT 1 FROM running u WHERE u.seq = k.seq AND u.cancel > 0)))";

/// The operation that a key stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    id: OperationId,
    fingerprint: Fingerprint,
}

impl Standing {
    pub(super) fn read(row: &impl Stored) -> Result<Self, LedgerError> {
        Ok(Self { id: id(row, "id")?, fingerprint: fingerprint(row)? })
    }

    fn answers(self, claim: &IdempotencyClaim) -> Accepted {
        match self.fingerprint == claim.fingerprint {
            true => Accepted::Replayed(self.id),
            false => Accepted::KeyConflict {
                of: self.id,
                differs: self.fingerprint.differences(&claim.fingerprint),
            },
        }
    }
}

/// What the last looks at rows came to, by queue.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Look>>>>);

/// What one came to.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// By how many there were more than was counted.
    by: i64,
    /// For how long it holds, by monotonic time.
    until: Option<Duration>,
}

/// Why an operation is not to be written down, if so: there is no room for it, or it is
/// there already.
pub(super) async fn refusal(
    shared: &Shared,
    operation: &NewOperation,
) -> Result<Option<Accepted>, LedgerError> {
    let (queue, most) = (&*operation.lane.queue, operation.max_depth);
    if shared.lanes.queue_depth(queue) < most {
        return Ok(None);
    }
    let depth = depth(shared, queue, most).await;
    if depth < most {
        return Ok(None);
    }
    if let Some(claim) = &operation.idempotency
        && let Some(standing) = shared.store.standing(claim).await?
    {
        return Ok(Some(standing.answers(claim)));
    }
    Ok(Some(Accepted::QueueFull { depth }))
}

/// How many lie in a queue that seems to have `most` at least. Whoever asks while another
/// one looks waits for what that sees.
async fn depth(shared: &Shared, queue: &str, most: u64) -> u64 {
    if !shared.store.is_shared() {
        return shared.lanes.queue_depth(queue);
    }
    let look = shared.looks.of(queue);
    let mut look = look.lock().await;
    let begun = shared.clock.elapsed();
    if look.until.is_none_or(|until| begun >= until) {
        let counted = shared.lanes.queue_depth(queue);
        let lanes = shared.lanes.of_queue(queue);
        match shared.store.count_up_to(&lanes, most.saturating_add(1)).await {
            // There may be more than were looked at.
            Ok(rows) if rows > most => look.by = 0,
            Ok(rows) => look.by = difference(rows, counted),
            // What the last one saw has to do.
            Err(error) => tracing::debug!(%error, queue, "its rows could not be counted"),
        }
        let took = shared.clock.elapsed().saturating_sub(begun);
        look.until = Some(begun + HOLDS.max(took * SHARE));
    }
    shared.lanes.queue_depth(queue).saturating_add_signed(look.by)
}

fn difference(rows: u64, counted: u64) -> i64 {
    let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
    signed(rows).saturating_sub(signed(counted))
}

impl Looks {
    fn of(&self, queue: &str) -> Arc<tokio::sync::Mutex<Look>> {
        // Each change leaves the map whole.
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(looks.entry(queue.to_owned()).or_default())
    }
}
