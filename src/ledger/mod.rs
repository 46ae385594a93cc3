//! Where everything accepted is written down, and the only module that speaks SQL.
//!
//! Owns durability, leases and the order of things. [`Ledger`] is what the rest of the
//! program sees: verbs that are told of their own fate, though they are committed in
//! groups. Its invariant: nobody is told of a write before it is durable, and only the
//! holder of the latest lease settles an operation. It must not know of HTTP, upstreams
//! or configuration.

mod committer;
mod complaints;
mod ends;
mod error;
mod handoff;
mod hints;
mod lanes;
mod looking;
mod opening;
mod postgres;
mod reads;
mod rows;
mod snapshots;
mod sqlite;
mod store;
#[cfg(test)]
mod suite;
mod verbs;
mod watch;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use error::{LedgerError, OpenError, StaleLease};
pub use handoff::{Desk, Reservation};
pub use opening::{Location, Opening, Pooler, Server};
pub use postgres::postgres_version;
pub use sqlite::sqlite_version;
pub use verbs::{
    Accepted, Canceled, Claimed, Freeing, KeptAnswer, LaneDepth, Lease, Leased, Listing, Operation,
    Page, Piece, ProgressReport, Progressed, Promised, Pruned, Retention, Settlement, Subject,
    Want,
};
pub use watch::Watch;

use crate::clock::Clock;
use crate::domain::operation::{BodyKey, Event, Lane, NewOperation, Next, Status};
use crate::domain::ticket::LedgerNumber;
use crate::domain::{OperationId, TicketKey, Timestamp};
use crate::lifecycle::Tasks;
use committer::{Queue, Tell, Write};
use reads::Questions;
use snapshots::{Present, Snapshots};
use store::Store;
use verbs::{Moved, Placed};

/// The ledger. Clones share one.
#[derive(Clone)]
pub struct Ledger {
    queue: Queue,
    questions: Questions,
    shared: Arc<Shared>,
    identity: Arc<Identity>,
}

/// What a ledger is told apart by, made when it was created.
pub(crate) struct Identity {
    number: LedgerNumber,
    ticket_key: TicketKey,
}

/// What callers and the committer share.
struct Shared {
    store: Box<dyn Store>,
    lanes: lanes::Lanes,
    hints: hints::Hints,
    waiters: watch::Waiters,
    snapshots: Snapshots,
    waiting: AtomicI64,
    desk: OnceLock<Arc<dyn Desk>>,
    work: Notify,
    waits: Notify,
    cancels: Mutex<Option<mpsc::UnboundedSender<OperationId>>>,
    complaints: complaints::Complaints,
    fatal: CancellationToken,
    clock: Clock,
}

impl Ledger {
    /// Opens a ledger and starts committing.
    pub async fn open(opening: Opening, clock: &Clock, tasks: &Tasks) -> Result<Self, OpenError> {
        let (store, identity) = store(opening, clock.now()).await?;
        let depths = store.depths().await.map_err(|error| store.unreadable(&error))?;
        let waiting = store.waiting().await.map_err(|error| store.unreadable(&error))?;
        let (queue, writes) = committer::queue();
        let shared_by_others = store.is_shared();
        let shared = Arc::new(Shared {
            lanes: lanes::Lanes::new(shared_by_others),
            store,
            hints: hints::Hints::new(shared_by_others),
            waiters: watch::Waiters::default(),
            snapshots: Snapshots::default(),
            waiting: AtomicI64::new(waiting as i64),
            desk: OnceLock::new(),
            work: Notify::new(),
            waits: Notify::new(),
            cancels: Mutex::default(),
            complaints: complaints::Complaints::default(),
            fatal: CancellationToken::new(),
            clock: clock.clone(),
        });
        shared.lanes.load(depths);
        metrics::gauge!("cloakroom_operations_waiting").set(waiting as f64);
        let questions = start(&shared, writes, tasks);
        Ok(Self { queue, questions, shared, identity: Arc::new(identity) })
    }

    /// The number that ids of this ledger carry.
    pub fn number(&self) -> LedgerNumber {
        self.identity.number
    }

    /// What makes and opens this ledger's tickets.
    pub fn ticket_key(&self) -> &TicketKey {
        &self.identity.ticket_key
    }

    /// Lends a desk that new operations are handed to. The first one stays.
    pub fn lend_desk(&self, desk: Arc<dyn Desk>) {
        let _ = self.shared.desk.set(desk);
    }

    /// Is cancelled when the disk failed to make a write durable: the process has to end.
    pub fn fatal(&self) -> CancellationToken {
        self.shared.fatal.clone()
    }

    /// Writes an operation down. Once this returns [`Accepted::New`], it is not lost.
    pub async fn accept(&self, operation: NewOperation) -> Result<Accepted, LedgerError> {
        let depth = self.shared.lanes.queue_depth(&operation.lane.queue);
        if depth >= operation.max_depth {
            if let Some(pieces) = operation.work.pieces() {
                self.discard(pieces).await?;
            }
            return Ok(Accepted::QueueFull { depth });
        }
        self.write(|tell| Write::Accept(Box::new(operation), tell)).await
    }

    /// Hands out due operations.
    pub async fn claim(
        &self,
        wants: Vec<Want>,
        now: Timestamp,
    ) -> Result<Vec<Claimed>, LedgerError> {
        self.write(|tell| Write::Claim(wants, now, tell)).await
    }

    /// Hands out due operations that follow an upstream. Who does not settle one until
    /// `visible_again` loses it to the next who asks.
    pub async fn claim_waiting(
        &self,
        limit: usize,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.write(|tell| Write::ClaimWaiting { limit, now, visible_again, tell }).await
    }

    /// The number of this start, which what it runs names as its owner.
    pub fn incarnation(&self) -> i64 {
        self.shared.store.incarnation()
    }

    /// The incarnations that were known to be dead when the ledger was opened.
    pub fn dead_at_open(&self) -> Vec<i64> {
        self.shared.store.dead_at_open().to_vec()
    }

    /// Hands out what these incarnations held, which are dead.
    pub async fn claim_orphans(
        &self,
        dead: Vec<i64>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.write(|tell| Write::ClaimOrphans { dead, limit, now, tell }).await
    }

    /// Hands out what lies in a lane past its deadline, so that it can be ended.
    pub async fn claim_expired(
        &self,
        lane: Lane,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.write(|tell| Write::ClaimExpired { lane, limit, now, tell }).await
    }

    /// Commits the end of an attempt with all its effects.
    pub async fn settle(
        &self,
        settlement: Settlement,
    ) -> Result<Result<Status, StaleLease>, LedgerError> {
        self.write(|tell| Write::Settle(Box::new(settlement), tell)).await
    }

    /// Calls an operation off.
    pub async fn cancel(
        &self,
        id: OperationId,
        freeing: Freeing,
        now: Timestamp,
    ) -> Result<Canceled, LedgerError> {
        self.write(|tell| Write::Cancel(id, freeing, now, tell)).await
    }

    /// Frees request and result of an operation that has ended; false if it has not.
    pub async fn free(&self, id: OperationId, now: Timestamp) -> Result<bool, LedgerError> {
        self.write(|tell| Write::Free(id, now, tell)).await
    }

    /// Writes down what an upstream reported about its progress.
    pub async fn progress(&self, report: ProgressReport) -> Result<Progressed, LedgerError> {
        self.write(|tell| Write::Progress(report, tell)).await
    }

    /// Writes pieces of a large body down, before the write that refers to them.
    pub async fn stash(&self, pieces: Vec<Piece>) -> Result<(), LedgerError> {
        self.write(|tell| Write::Stash(pieces, tell)).await
    }

    /// Deletes the pieces of a body that was stashed and then not needed. Those that
    /// nobody discards go when the ledger is opened the next time.
    pub async fn discard(&self, body: BodyKey) -> Result<(), LedgerError> {
        self.write(|tell| Write::Discard(body, tell)).await
    }

    /// Frees what has expired, at most `limit` operations at a time.
    pub async fn prune(&self, limit: usize, now: Timestamp) -> Result<Pruned, LedgerError> {
        self.write(|tell| Write::Prune(limit, now, tell)).await
    }

    /// An operation as it stands.
    pub async fn find(&self, id: OperationId) -> Result<Option<Operation>, LedgerError> {
        if self.shared.store.is_shared() {
            return reads::find(&self.questions, id).await;
        }
        let reading = match self.shared.snapshots.look(id) {
            Present::Known(operation) => return Ok(Some(*operation)),
            Present::Unknown(reading) => reading,
        };
        let found = reads::find(&self.questions, id).await?;
        self.shared.snapshots.read(id, reading, found.as_ref());
        Ok(found)
    }

    /// The recorded answer of an operation.
    pub async fn answer(&self, id: OperationId) -> Result<Option<KeptAnswer>, LedgerError> {
        self.shared.store.answer(id).await
    }

    /// What an operation was accepted as; none once that was freed.
    pub async fn promised(&self, id: OperationId) -> Result<Option<Promised>, LedgerError> {
        self.shared.store.promised(id).await
    }

    /// The timeline behind event number `after`, at most `limit` events.
    pub async fn events(
        &self,
        id: OperationId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Event>, LedgerError> {
        self.shared.store.events(id, after, limit).await
    }

    /// A page of operations, newest first.
    pub async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        self.shared.store.list(listing).await
    }

    /// What an operation gave rise to, directly and indirectly; at most `limit`.
    pub async fn descendants(
        &self,
        id: OperationId,
        limit: u32,
    ) -> Result<Vec<Operation>, LedgerError> {
        self.shared.store.descendants(id, limit).await
    }

    /// One piece of a large body.
    pub async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError> {
        self.shared.store.piece(body, number).await
    }

    /// Every lane, its depth, and a time before which nothing of it is due.
    pub fn lanes(&self) -> Vec<LaneDepth> {
        self.shared.lanes.snapshot()
    }

    /// How many operations are queued in a queue, over all of its lanes.
    pub fn queue_depth(&self, queue: &str) -> u64 {
        self.shared.lanes.queue_depth(queue)
    }

    /// When the oldest operation of each of these lanes is due.
    pub async fn oldest_due(&self, lanes: &[Lane]) -> Result<Vec<Option<Timestamp>>, LedgerError> {
        self.shared.store.oldest_due(lanes).await
    }

    /// Sees the changes of one operation. Watch first, then read.
    pub fn watch(&self, id: OperationId) -> Watch {
        self.shared.waiters.watch(id)
    }

    /// Completes when there may be something new to claim.
    pub async fn work_came(&self) {
        self.shared.work.notified().await;
    }

    /// Completes when there may be something new to follow.
    pub async fn waits_came(&self) {
        self.shared.waits.notified().await;
    }

    /// Tells that there may be something to claim: a slot became free.
    pub fn look_for_work(&self) {
        self.shared.work.notify_one();
    }

    /// The running operations that are called off, from now on. The last who asked for
    /// them is told; none of them is lost.
    pub fn cancels(&self) -> mpsc::UnboundedReceiver<OperationId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.listeners() = Some(sender);
        receiver
    }

    async fn write<T>(&self, write: impl FnOnce(Tell<T>) -> Write) -> Result<T, LedgerError> {
        let (tell, told) = oneshot::channel();
        let gone = || LedgerError::Unavailable("the gateway is stopping".to_owned());
        self.queue.send(write(tell)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

/// Opens the store that the location names.
async fn store(opening: Opening, now: Timestamp) -> Result<(Box<dyn Store>, Identity), OpenError> {
    match &opening.location {
        Location::Sqlite { path, readers } => {
            let (store, identity) = sqlite::open(
                sqlite::Opening {
                    path: path.clone(),
                    readers: *readers,
                    migrate: opening.migrate,
                    retention: opening.retention,
                    lanes: opening.lanes,
                },
                now,
            )
            .await?;
            Ok((Box::new(store), identity))
        }
        Location::Postgres(server) => {
            let (store, identity) = postgres::open(&opening, server, now).await?;
            Ok((Box::new(store), identity))
        }
    }
}

/// Starts what reads, commits and looks. All of it ends, and the store is closed, when the
/// last handle of the ledger is gone.
fn start(shared: &Arc<Shared>, writes: mpsc::Receiver<Write>, tasks: &Tasks) -> Questions {
    let (questions, asked) = reads::queue();
    // Its last sender is dropped when nobody writes, reads or looks any more.
    let (busy, mut idle) = mpsc::channel::<()>(1);
    let closing = CancellationToken::new();
    let reading = (Arc::clone(shared), busy.clone());
    tasks.spawn_apart(async move {
        reads::run(reading.0, asked).await;
        drop(reading.1);
    });
    let writes: committer::Queued = Arc::new(tokio::sync::Mutex::new(writes));
    for _ in 0..shared.store.committers() {
        let guard = closing.clone().drop_guard();
        let (writer, writes, busy) = (Arc::clone(shared), Arc::clone(&writes), busy.clone());
        tasks.spawn_apart(async move {
            committer::run(writer, writes).await;
            drop((guard, busy));
        });
    }
    if shared.store.is_shared() {
        let (looker, busy) = (Arc::clone(shared), busy.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = looking::run(&looker) => {}
            }
            drop(busy);
        });
    }
    drop(busy);
    let closed = Arc::clone(shared);
    tasks.spawn(async move {
        while idle.recv().await.is_some() {}
        closed.store.close().await;
    });
    questions
}

impl Shared {
    fn reserve(&self, lane: &Lane) -> Option<Box<dyn Reservation>> {
        self.desk.get()?.reserve(lane)
    }

    /// These have changed, durably; nobody has been told yet.
    fn changed(&self, ids: impl IntoIterator<Item = OperationId> + Clone) {
        self.snapshots.forget(ids.clone());
        self.hints.changed(ids.clone());
        self.waiters.changed(ids);
    }

    fn listeners(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<OperationId>>> {
        // It holds a plain value.
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many more wait than before.
    fn wait(&self, more: i64) {
        if more != 0 {
            let waiting = self.waiting.fetch_add(more, Ordering::Relaxed) + more;
            metrics::gauge!("cloakroom_operations_waiting").set(waiting as f64);
        }
    }

    /// A transaction is durable: lanes and hints follow.
    fn committed(&self, moved: &Moved) {
        self.changed(moved.released.iter().copied());
        self.wait(moved.waiting);
        for (lane, due_at) in &moved.ready {
            self.lanes.added(lane, *due_at);
        }
        for lane in &moved.unqueued {
            self.lanes.removed(lane, 1);
        }
        self.hints.ready(moved.ready.iter().map(|(lane, _)| lane));
        if !moved.ready.is_empty() {
            self.work.notify_one();
        }
        if moved.waits {
            self.waits.notify_one();
        }
    }

    fn accepted(&self, operation: &NewOperation, placed: Placed) {
        let route = operation.route.to_string();
        metrics::counter!("cloakroom_operations_accepted_total", "route" => route).increment(1);
        if placed == Placed::Waiting {
            self.wait(1);
        }
        if placed == Placed::Ready {
            self.lanes.added(&operation.lane, operation.due_at);
            self.hints.ready([&operation.lane]);
            self.work.notify_one();
        }
    }

    fn settled(&self, id: OperationId, status: Status, settlement: &Settlement) {
        if status.is_final() {
            let code = match &settlement.transition.next {
                Next::Failed(failure) => failure.code.as_str(),
                _ => "",
            };
            metrics::counter!(
                "cloakroom_operations_finished_total", "outcome" => status.as_str(), "error" => code
            )
            .increment(1);
        }
        self.changed([id]);
    }

    fn canceled(&self, id: OperationId, canceled: Canceled) {
        match canceled {
            Canceled::Done => {
                metrics::counter!(
                    "cloakroom_operations_finished_total", "outcome" => "canceled", "error" => ""
                )
                .increment(1);
            }
            Canceled::Asked => {
                self.hints.called_off(id);
                self.call_off(id);
            }
            Canceled::Already | Canceled::TooLate(_) | Canceled::Unknown => return,
        }
        self.changed([id]);
    }

    /// Tells whoever carries it out. Nobody listening means that nothing runs here.
    fn call_off(&self, id: OperationId) {
        if let Some(listener) = &*self.listeners() {
            let _ = listener.send(id);
        }
    }

    /// A write failed for everybody.
    fn note(&self, error: &LedgerError) {
        self.complaints.note(error, self.clock.now());
        if let LedgerError::NotDurable(_) = error {
            self.fatal.cancel();
        }
    }
}
