//! Room in a queue, for one more operation and for what is stored of it.
//!
//! Owns the second look before a request is refused. Its invariants: a key that the ledger
//! knows is answered with its operation however full the queue is; and where others count
//! too, no request is refused by a count that was not compared with rows within a second or so.
//! Rows are counted no further than decides the matter, apart from what is being accepted.
//! This process keeps room for the requests that it is about to store, so that those which come
//! together do not share the last of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cache::lane_depths::Lanes;
use crate::cluster::sweep;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Accepted;
use crate::rows::{ReadRow, fingerprint, id};
use crate::state::Shared;
use crate::store::on_store;
use crate::webhooks::sql::{Params, SqlReader, ask_one};
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::{Fingerprint, IdempotencyClaim, NewOperation};

statements! {
    /// Whom a key stands for, if for anybody any more.
    pub(crate) const STANDING: &str = r"
        SELECT o.id, k.fingerprint
        FROM idempotency_keys k
        JOIN operations o ON o.seq = k.seq
        WHERE k.digest = $1
            AND NOT (k.scope = 'pending' AND (EXISTS (SELECT 1 FROM outcomes x
                WHERE x.seq = k.seq) OR EXISTS (SELECT 1 FROM running u WHERE u.seq = k.seq
                AND u.cancel <> 0)))";
}

/// How long a look at rows holds.
const HOLDS: Duration = Duration::from_secs(1);
/// Looking may take one part in so many of the time.
const SHARE: u32 = 10;

/// The operation that a key stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    id: OperationId,
    fingerprint: Fingerprint,
}

impl Standing {
    pub(crate) fn read(row: &impl ReadRow) -> Result<Self, LedgerError> {
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

/// Room for what is about to be stored. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Room {
    lanes: Arc<Lanes>,
    queue: Arc<str>,
    octets: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.lanes.leave_room(&self.queue, self.octets);
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Limit {
    Depth,
    Stored,
}

/// What the last looks at rows came to, by queue.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<HashMap<(String, Limit), Shareable>>);

/// A look that several wait for.
type Shareable = Arc<tokio::sync::Mutex<Look>>;

/// What one came to.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// By how much there was more than was counted.
    by: i64,
    /// For how long it holds, by monotonic time.
    until: Option<Duration>,
}

/// Room for an operation, or why it is not to be written down: there is none, or it is there
/// already.
pub(crate) async fn admission(
    shared: &Shared,
    operation: &NewOperation,
) -> Result<Result<Room, Accepted>, LedgerError> {
    let (queue, most) = (&*operation.lane.queue, operation.max_depth);
    if !shared.store.has_room() {
        return repeat_of(shared, operation).await?.ok_or_else(|| full(shared)).map(Err);
    }
    if shared.lanes.queue_depth(queue) >= most {
        let depth = depth(shared, queue, most).await;
        if depth >= most {
            return refusal(shared, operation, Accepted::QueueFull { depth }).await.map(Err);
        }
    }
    match room(shared, operation, 0) {
        Some(room) => Ok(Ok(room)),
        None => second_look(shared, operation).await,
    }
}

/// Looks at rows where what is counted leaves no room for what is to be stored.
async fn second_look(
    shared: &Shared,
    operation: &NewOperation,
) -> Result<Result<Room, Accepted>, LedgerError> {
    let queue = &*operation.lane.queue;
    let mut off = 0;
    if shared.store.is_shared() {
        let lanes = shared.lanes.of_queue(queue);
        let stored = || shared.lanes.queue_stored(queue);
        off = looked(
            shared,
            (queue, Limit::Stored),
            Box::pin(async {
                let counted = stored();
                sweep::stored_in(&shared.store, &lanes).await.map(|rows| difference(rows, counted))
            }),
        )
        .await;
    }
    if let Some(room) = room(shared, operation, off) {
        return Ok(Ok(room));
    }
    let stored = shared.lanes.queue_stored(queue).saturating_add_signed(off);
    refusal(shared, operation, Accepted::StorageFull { stored }).await.map(Err)
}

fn room(shared: &Shared, operation: &NewOperation, off: i64) -> Option<Room> {
    let (queue, octets) = (&operation.lane.queue, operation.work.octets());
    let has_room = shared.lanes.make_room(queue, octets, operation.max_stored, off);
    has_room.then(|| Room { lanes: Arc::clone(&shared.lanes), queue: Arc::clone(queue), octets })
}

/// The refusal of a write that the store has no room for.
pub(crate) fn full(shared: &Shared) -> LedgerError {
    shared.note(&LedgerError::Full);
    LedgerError::Full
}

/// What an operation is answered for which there is no room: a repeat gets what there is.
async fn refusal(
    shared: &Shared,
    operation: &NewOperation,
    full: Accepted,
) -> Result<Accepted, LedgerError> {
    Ok(repeat_of(shared, operation).await?.unwrap_or(full))
}

/// The answer to an operation that is a repeat.
async fn repeat_of(
    shared: &Shared,
    operation: &NewOperation,
) -> Result<Option<Accepted>, LedgerError> {
    let Some(claim) = &operation.idempotency else { return Ok(None) };
    let standing = on_store!(&shared.store, reader => standing_of(reader, claim).await)?;
    Ok(standing.map(|standing| standing.answers(claim)))
}

/// Whom a key stands for.
async fn standing_of(
    reader: &impl SqlReader,
    claim: &IdempotencyClaim,
) -> Result<Option<Standing>, LedgerError> {
    let row = ask_one(reader, STANDING, Params::none().octets(claim.digest.to_vec())).await?;
    row.as_ref().map(Standing::read).transpose()
}

/// How many lie in a queue that seems to have `most` at least.
async fn depth(shared: &Shared, queue: &str, most: u64) -> u64 {
    if !shared.store.is_shared() {
        return shared.lanes.queue_depth(queue);
    }
    let lanes = shared.lanes.of_queue(queue);
    let off = looked(
        shared,
        (queue, Limit::Depth),
        Box::pin(async {
            let counted = shared.lanes.queue_depth(queue);
            let rows = sweep::count_up_to(&shared.store, &lanes, most.saturating_add(1)).await?;
            // There may be more than were looked at.
            Ok(if rows > most { 0 } else { difference(rows, counted) })
        }),
    )
    .await;
    shared.lanes.queue_depth(queue).saturating_add_signed(off)
}

/// By how much there is more than is counted, as the last look saw it; `look` looks anew. A
/// caller that asks while another one looks waits for what that one sees.
async fn looked(
    shared: &Shared,
    (queue, limit): (&str, Limit),
    look_anew: impl Future<Output = Result<i64, LedgerError>>,
) -> i64 {
    let look = shared.looks.of(queue, limit);
    let mut look = look.lock().await;
    let begun = shared.clock.elapsed();
    if look.until.is_none_or(|until| begun >= until) {
        match look_anew.await {
            Ok(by) => look.by = by,
            // What the last one saw has to do.
            Err(error) => tracing::debug!(%error, queue, "its rows could not be counted"),
        }
        let took = shared.clock.elapsed().saturating_sub(begun);
        look.until = Some(begun + HOLDS.max(took * SHARE));
    }
    look.by
}

fn difference(rows: u64, counted: u64) -> i64 {
    let signed = |count| i64::try_from(count).unwrap_or(i64::MAX);
    signed(rows).saturating_sub(signed(counted))
}

impl Looks {
    fn of(&self, queue: &str, limit: Limit) -> Shareable {
        // Each change leaves the map whole.
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(looks.entry((queue.to_owned(), limit)).or_default())
    }
}
