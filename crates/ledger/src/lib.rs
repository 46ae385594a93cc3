//! The ledger: durable storage of everything accepted, and the only crate that speaks SQL.
//!
//! Owns durability, leases and the order of things. [`Ledger`] is what the rest of the
//! program sees: verbs that are told of their own fate, though they are committed in
//! groups. Its invariant: no caller is told of a write before it is durable, and only the
//! holder of the latest lease settles an operation. It must not know of HTTP, upstreams
//! or configuration.

mod cluster;
mod commit;
mod complaints;
mod copying;
mod db;
mod error;
mod fleet;
mod hints;
mod lanes;
mod listed;
mod looking;
mod opening;
mod operations;
mod paused;
mod permits;
mod postgres;
mod reads;
mod reconcile;
mod recount;
mod resealing;
mod rows;
mod schema;
mod sealing_keys;
mod shared;
mod snapshots;
mod sqlite;
mod store;
#[cfg(test)]
mod suite;
mod throughput;
mod unread;
mod verbs;
mod watch;
mod webhooks;

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use commit::handoff::{DeliverySlot, DeliverySlots, Desk, Reservation};
pub use copying::{CopyError, copy_ledger};
pub use error::{LedgerError, OpenError, StaleLease};
pub use fleet::{Beaten, Dead, LeaseKey, NodeRow, Owned, Vitals};
pub use listed::Listed;
pub use opening::{Location, Opening, Pooler, Server};
pub use permits::{Asked, Divided, Emptied, LimitName};
pub use postgres::postgres_version;
pub use resealing::{NoCursor, ResealCursor, Resealed};
pub use sqlite::{check_file, check_folder, folder_of, sqlite_version};
pub use verbs::{
    Accepted, Blocked, Canceled, Claimed, Deadline, Freeing, Judged, KeptAnswer, KeyInUse,
    KeyListing, LaneDepth, LanePlace, Lease, Leased, Listing, NoSerialName, Operation, Overdue,
    Page, Pausing, Piece, ProgressReport, Progressed, Promised, Pruned, Retention, SerialName,
    Settlement, Subject, Unblocked, Want,
};
pub use watch::Watch;
pub use webhooks::{
    AttemptRecord, AttemptSettlement, Cause, ClaimedDeliveries, DeliveriesOf, Delivery,
    DeliveryCounts, DeliveryEnd, DeliveryKey, DeliveryLane, DeliveryLease, DeliveryListing,
    DeliveryPage, DeliverySelection, DeliverySettled, DeliverySettlement, DeliveryState,
    DeliveryWant, DisabledFor, FirstCallback, Format, KeyKind, KeyOwner, KeyRotation,
    LeasedDelivery, Message, MessageRenderer, NewCallbacks, NewKey, NewSubscription,
    NoSubscriptionId, Owners, PrunedDeliveries, PublishedKey, Receiver, RedeliveryOutcome,
    ReplayStep, ReplayStepOutcome, RotationOutcome, StoredKey, SubscribeOutcome, Subscription,
    SubscriptionChange, SubscriptionId, SubscriptionListing, SubscriptionSettings,
    SubscriptionState, SubscriptionUpdate, USED, UpdateOutcome,
};

use cloakroom_domain::operation::{BodyKey, Event, Lane, NewOperation, Status, Verdict};
use cloakroom_domain::pruning::Portion;
use cloakroom_domain::sealing::KeyId;
use cloakroom_domain::ticket::LedgerNumber;
use cloakroom_domain::{OperationId, TicketKey, Timestamp};
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;
use cluster::{Beat, Leave, nodes};
use commit::committer::Write;
use commit::verb::{Reply, Verb, pending};
use commit::write_queue::{self, WriteQueue};
use fleet::Counted;
use operations::{
    Cancel, Claim, ClaimExpired, ClaimOrphans, ClaimOverdue, ClaimWaiting, DiscardBody, Free,
    Pause, Prune, Reclaim, RecordVerdict, Release, ReleaseDelayed, Report, WriteChunks,
};
use operations::{bodies, capacity, pause, read, serial_keys};
use permits::Leaving;
use reads::ReadBatcher;
use shared::Shared;
use snapshots::{Present, Snapshots};
use store::on_store;
use verbs::Acceptance;

/// The ledger. Clones share one.
#[derive(Clone)]
pub struct Ledger {
    queue: WriteQueue,
    questions: ReadBatcher,
    shared: Arc<Shared>,
    identity: Arc<Identity>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Ledger").field("number", &self.identity.number).finish_non_exhaustive()
    }
}

/// What a ledger is told apart by, made when it was created.
pub(crate) struct Identity {
    number: LedgerNumber,
    ticket_key: TicketKey,
}

impl Ledger {
    /// Opens a ledger and starts committing.
    pub async fn open(opening: Opening, clock: &Clock, tasks: &Tasks) -> Result<Self, OpenError> {
        let sealing_key = opening.keyring.current();
        let (store, identity) = Box::pin(opening::store(opening, clock.now())).await?;
        if let Some(now) = nodes::time(&store).await.map_err(|error| store.unreadable(&error))? {
            clock.steer(now);
        }
        let depths = read::depths(&store).await.map_err(|error| store.unreadable(&error))?;
        let waiting = on_store!(&store, reader => read::count_waiting(reader).await)
            .map_err(|error| store.unreadable(&error))?;
        let (queue, turns) = write_queue::queue(store.committers());
        let shared_by_others = store.is_shared();
        let shared = Arc::new(Shared {
            lanes: Arc::new(lanes::Lanes::new(shared_by_others)),
            store,
            hints: hints::Hints::new(shared_by_others),
            waiters: watch::Waiters::default(),
            snapshots: Snapshots::default(),
            paused: paused::Paused::default(),
            waiting: AtomicI64::new(waiting as i64),
            desk: OnceLock::new(),
            work: Notify::new(),
            waits: Notify::new(),
            mail: Notify::new(),
            disk_full: Notify::new(),
            disk_full_for_webhooks: Notify::new(),
            due_index: webhooks::due_index::DueIndex::default(),
            fans: Notify::new(),
            delivery_slots: OnceLock::new(),
            renderer: OnceLock::new(),
            stirred: Notify::new(),
            dead: Mutex::default(),
            throughput: throughput::Throughput::default(),
            cancels: Mutex::default(),
            complaints: complaints::Complaints::default(),
            looks: capacity::Looks::default(),
            strange: cloakroom_runtime::LogThrottle::default(),
            fatal: CancellationToken::new(),
            sealing_key,
            clock: clock.clone(),
        });
        shared.lanes.load(depths);
        let paused = on_store!(&shared.store, reader => pause::paused(reader).await);
        shared.paused.replace(paused.map_err(|error| shared.store.unreadable(&error))?);
        let looked = on_store!(&shared.store, reader => webhooks::publish::look(reader).await);
        looked.map_err(|error| shared.store.unreadable(&error))?;
        let due = on_store!(&shared.store, reader => webhooks::read::due(reader).await);
        shared.newly_due(due.map_err(|error| shared.store.unreadable(&error))?);
        metrics::gauge!("cloakroom_operations_waiting").set(waiting as f64);
        let questions = opening::start(&shared, turns, tasks);
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

    /// The key that seals what this node writes; none where it seals nothing.
    pub fn sealing_key(&self) -> Option<KeyId> {
        self.shared.sealing_key
    }

    /// Lends a desk that new operations are handed to. The first one stays.
    pub fn lend_desk(&self, desk: Arc<dyn Desk>) {
        let _ = self.shared.desk.set(desk);
    }

    /// Says which tasks this node can do. It leaves others to those who can.
    pub fn lend_tasks(&self, names: impl IntoIterator<Item = Arc<str>>) {
        self.shared.store.knows_tasks(names.into_iter().collect());
    }

    /// Is cancelled when the disk failed to make a write durable: the process has to end.
    pub fn fatal(&self) -> CancellationToken {
        self.shared.fatal.clone()
    }

    /// Writes an operation down. Once this returns [`Accepted::New`], it is not lost.
    pub fn accept(
        &self,
        operation: NewOperation,
    ) -> impl Future<Output = Result<Accepted, LedgerError>> + Send {
        self.accept_calling_back(operation, None)
    }

    /// The same with a callback to where none may have gone yet: its receiver is made with the
    /// operation, or not at all.
    pub fn accept_calling_back(
        &self,
        operation: NewOperation,
        first: Option<FirstCallback>,
    ) -> impl Future<Output = Result<Accepted, LedgerError>> + Send {
        // Boxed before anything waits: a future that waits for this keeps room for all of it.
        let mut acceptance = Box::new(Acceptance { operation, first, hand_off: false, room: None });
        async move {
            let operation = &acceptance.operation;
            match capacity::admission(&self.shared, operation).await? {
                Ok(room) => acceptance.room = Some(room),
                Err(refused) => {
                    if let Some(pieces) = operation.work.pieces() {
                        self.discard(pieces).await?;
                    }
                    return Ok(refused);
                }
            }
            self.write(|reply| Write::Accept(acceptance, reply)).await
        }
    }

    /// Hands out due operations.
    pub async fn claim(
        &self,
        wants: Vec<Want>,
        now: Timestamp,
    ) -> Result<Vec<Claimed>, LedgerError> {
        self.submit(Claim { wants, now }).await
    }

    /// Hands out operations that wait for a serial key past their deadline, to be ended. An
    /// operation that is not settled until `visible_again` is handed out once more.
    pub async fn claim_overdue(
        &self,
        limit: usize,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.submit(ClaimOverdue { limit, now, visible_again }).await
    }

    /// Lets operations go that have a serial key and were delayed until now; how many, up to
    /// `limit`. Writes nothing where no delay is over.
    pub async fn release_delayed(
        &self,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, LedgerError> {
        if !serial_keys::is_delay_over(&self.shared.store, now).await? {
            return Ok(0);
        }
        self.submit(ReleaseDelayed { limit, now }).await
    }

    /// Hands out due operations of these lanes that follow an upstream. Who does not settle one until
    /// `visible_again` loses it to the next who asks.
    pub async fn claim_waiting(
        &self,
        wants: Vec<Want>,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.submit(ClaimWaiting { wants, now, visible_again }).await
    }

    /// The number of this start, which what it runs names as its owner.
    pub fn incarnation(&self) -> i64 {
        self.shared.store.incarnation()
    }

    /// The incarnations that were known to be dead when the ledger was opened.
    pub fn dead_at_open(&self) -> Vec<i64> {
        self.shared.store.dead_at_open().to_vec()
    }

    /// Tells the others that this node is there, and brings what they tell. Ledger time is
    /// the database's from then on.
    pub async fn beat(&self, vitals: Vitals) -> Result<Beaten, LedgerError> {
        let now = self.shared.clock.now();
        let counted = self.counted();
        let beaten = self.submit(Beat { vitals, counted: counted.clone(), now }).await?;
        if let Some(now) = beaten.time {
            self.shared.clock.steer(now);
        }
        self.shared.lanes.told(&counted, &beaten.elsewhere);
        let started = self.shared.lanes.started_by_queue();
        self.shared.throughput.sampled(self.shared.clock.elapsed(), started);
        Ok(beaten)
    }

    /// What this node has counted and not told yet, where there is anybody to tell.
    fn counted(&self) -> Vec<Counted> {
        if self.is_shared() { self.shared.lanes.untold() } else { Vec::new() }
    }

    /// Removes this node from the cluster, so that others need not wait for its lease, and records
    /// when the buckets of its rates would have been empty. Call it again if operations are
    /// accepted afterwards.
    pub async fn leave(
        &self,
        mut emptied: Vec<(LimitName, Timestamp)>,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        emptied.sort_unstable();
        let counted = self.unleft();
        let leaving = Leaving { counted: counted.clone(), emptied };
        self.submit(Leave { leaving, now }).await?;
        self.shared.lanes.left(&counted);
        Ok(())
    }

    /// Whether there is something to say that was not when it took leave.
    pub fn has_more_to_leave(&self) -> bool {
        !self.unleft().is_empty()
    }

    fn unleft(&self) -> Vec<Counted> {
        if self.is_shared() { self.shared.lanes.unleft() } else { Vec::new() }
    }

    /// Every node that the ledger remembers, the latest start first.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, LedgerError> {
        on_store!(&self.shared.store, reader => nodes::nodes(reader).await)
    }

    /// Whether other processes may use the ledger too.
    pub fn is_shared(&self) -> bool {
        self.shared.store.is_shared()
    }

    /// Hands out anew what this node was handed and holds no more. Those of which there
    /// has been another hand-out since are left out. The ledger remembers of those that have
    /// `begun` that they may have been sent: the answer to this may get lost, too.
    pub async fn reclaim(
        &self,
        lost: Vec<LeaseKey>,
        begun: bool,
        now: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.submit(Reclaim { lost, begun, now }).await
    }

    /// Hands out what these nodes held, as far as they are dead: one that has beaten since
    /// keeps what it has.
    pub async fn claim_orphans(
        &self,
        dead: Vec<Dead>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.submit(ClaimOrphans { dead, limit, now }).await
    }

    /// Looks for what lies in a lane past its deadline: at so many operations from that place on.
    /// Writes nothing, so that a look at a deep lane keeps no write waiting.
    pub async fn overdue(
        &self,
        lane: &Lane,
        from: LanePlace,
        look_at: usize,
        now: Timestamp,
    ) -> Result<Overdue, LedgerError> {
        read::overdue(&self.shared.store, lane, from, look_at, now).await
    }

    /// Hands out those of a look that still lie in the lane, so that they can be ended.
    pub async fn claim_expired(
        &self,
        lane: Lane,
        overdue: Overdue,
        now: Timestamp,
    ) -> Result<Vec<Leased>, LedgerError> {
        self.submit(ClaimExpired { lane, seqs: overdue.seqs, now }).await
    }

    /// Commits the end of an attempt with all its effects.
    pub async fn settle(
        &self,
        settlement: Settlement,
    ) -> Result<Result<Status, StaleLease>, LedgerError> {
        self.write(|reply| Write::Settle(Box::new(settlement), reply)).await
    }

    /// Calls an operation off.
    pub async fn cancel(
        &self,
        id: OperationId,
        freeing: Freeing,
        now: Timestamp,
    ) -> Result<Canceled, LedgerError> {
        self.submit(Cancel { id, freeing, now }).await
    }

    /// Frees request and result of an operation that has ended; false if it has not.
    pub async fn free(&self, id: OperationId, now: Timestamp) -> Result<bool, LedgerError> {
        self.submit(Free { id, now }).await
    }

    /// Writes down what an upstream reported about its progress.
    pub async fn progress(&self, report: ProgressReport) -> Result<Progressed, LedgerError> {
        self.submit(Report { report }).await
    }

    /// Writes pieces of a large body down, before the write that refers to them.
    pub async fn stash(&self, pieces: Vec<Piece>) -> Result<(), LedgerError> {
        if !self.shared.store.has_room() {
            return Err(capacity::full(&self.shared));
        }
        let now = self.shared.clock.now();
        self.submit(WriteChunks { chunks: pieces, now }).await
    }

    /// Deletes the pieces of a body that was stashed and then not needed, unless a row refers to
    /// them after all: an error at a COMMIT leaves that open. Pieces that no caller discards go
    /// with a later look ([`Ledger::reconcile`]).
    pub async fn discard(&self, body: BodyKey) -> Result<(), LedgerError> {
        self.submit(DiscardBody { body }).await
    }

    /// Frees what has expired, a portion of it, in a commit of its own.
    pub async fn prune(
        &self,
        portion: impl Into<Portion>,
        now: Timestamp,
    ) -> Result<Pruned, LedgerError> {
        self.submit(Prune { portion: portion.into(), now }).await
    }

    /// Lets the next of a serial key go that a failure blocks.
    pub async fn unblock(
        &self,
        name: SerialName,
        now: Timestamp,
    ) -> Result<Unblocked, LedgerError> {
        self.submit(Release { name, now }).await
    }

    /// Writes down what a person found out about an unknown outcome.
    pub async fn judge(&self, id: OperationId, verdict: Verdict) -> Result<Judged, LedgerError> {
        self.submit(RecordVerdict { id, verdict }).await
    }

    /// Serial keys that operations hold, in the order of their names.
    pub async fn keys(
        &self,
        listing: KeyListing,
    ) -> Result<Listed<KeyInUse, SerialName>, LedgerError> {
        let keys =
            on_store!(&self.shared.store, reader => serial_keys::keys(reader, listing).await)?;
        listed::tell(&self.shared, "serial", &keys.unread);
        Ok(keys)
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
        on_store!(&self.shared.store, reader => read::answer(reader, id).await)
    }

    /// What an operation was accepted as; none once that was freed.
    pub async fn promised(&self, id: OperationId) -> Result<Option<Promised>, LedgerError> {
        on_store!(&self.shared.store, reader => read::promised(reader, id).await)
    }

    /// The timeline behind event number `after`, at most `limit` events.
    pub async fn events(
        &self,
        id: OperationId,
        after: u32,
        limit: u32,
    ) -> Result<Listed<Event, u32>, LedgerError> {
        let events =
            on_store!(&self.shared.store, reader => read::events(reader, id, after, limit).await)?;
        listed::tell(&self.shared, "events", &events.unread);
        Ok(events)
    }

    /// A page of operations, newest first.
    pub async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        let page = on_store!(&self.shared.store, reader => read::list(reader, listing).await)?;
        listed::tell(&self.shared, "operations", &page.unread);
        Ok(page)
    }

    /// Tells of a row that a list passed over, because what the ledger keeps sealed for others in it
    /// cannot be opened.
    pub fn passed_over(&self, list: &'static str, why: &str) {
        listed::tell(&self.shared, list, &[why.to_owned()]);
    }

    /// What an operation gave rise to, directly and indirectly; at most `limit`.
    pub async fn descendants(
        &self,
        id: OperationId,
        limit: u32,
    ) -> Result<Listed<Operation, OperationId>, LedgerError> {
        let below =
            on_store!(&self.shared.store, reader => read::descendants(reader, id, limit).await)?;
        listed::tell(&self.shared, "tree", &below.unread);
        Ok(below)
    }

    /// One piece of a large body.
    pub async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError> {
        on_store!(&self.shared.store, reader => bodies::chunk(reader, body, number).await)
    }

    /// Every lane, its depth, and a time before which nothing of it is due.
    pub fn lanes(&self) -> Vec<LaneDepth> {
        self.shared.lanes.snapshot()
    }

    /// How many operations are queued in a queue, over all of its lanes.
    pub fn queue_depth(&self, queue: &str) -> u64 {
        self.shared.lanes.queue_depth(queue)
    }

    /// How many attempts of a queue begin in a second, on all nodes: over the last minute,
    /// as far as this node has seen it.
    pub fn started_per_second(&self, queue: &str) -> f64 {
        self.shared.throughput.of(queue)
    }

    /// When the oldest operation of each of these lanes is due.
    pub async fn oldest_due(&self, lanes: &[Lane]) -> Result<Vec<Option<Timestamp>>, LedgerError> {
        read::oldest_due(&self.shared.store, lanes).await
    }

    /// Pauses a queue or resumes it; false if it was so before. Nothing in it is lost: it
    /// goes on where it was.
    pub async fn pause(&self, wish: Pausing) -> Result<bool, LedgerError> {
        self.submit(Pause { wish }).await
    }

    /// Whether a queue is paused here in the ledger. What another node has paused is seen
    /// within about a second.
    pub fn is_paused(&self, queue: &str) -> bool {
        self.shared.paused.contains(queue)
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

    /// Completes when a write has found the disk full.
    pub async fn disk_filled(&self) {
        self.shared.disk_full.notified().await;
    }

    /// The same, for those who free what is stored for webhooks.
    pub async fn disk_filled_for_webhooks(&self) {
        self.shared.disk_full_for_webhooks.notified().await;
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

    /// Commits a verb with others, and waits until it is durable.
    async fn submit<V: Verb>(&self, verb: V) -> Result<V::Output, LedgerError> {
        self.write(|reply| Write::Verb(pending(verb, reply))).await
    }

    async fn write<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Result<T, LedgerError> {
        let (reply, fate) = oneshot::channel();
        let gone = || LedgerError::Unavailable("the ledger gave the write up".to_owned());
        self.queue.send(write(reply)).await?;
        fate.await.map_err(|_| gone())?
    }
}
