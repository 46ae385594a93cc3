//! The ledger: durable storage of everything accepted, and the only crate that speaks SQL.
//!
//! Owns durability, leases and the order of things. [`Ledger`] is what the rest of the
//! program sees: verbs that are told of their own fate, though they are committed in
//! groups. Its invariant: no caller is told of a write before it is durable, and only the
//! holder of the latest lease settles an operation. It must not know of HTTP, upstreams
//! or configuration.

mod cache;
mod cluster;
mod commit;
mod copy;
mod db;
mod error;
mod facade;
mod model;
mod open;
mod operations;
mod page;
mod rows;
mod state;
mod store;
#[cfg(test)]
mod suite;
mod webhooks;
mod write_errors;

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

pub use crate::cache::watch::Watch;
pub use crate::cluster::fleet::{Beaten, Dead, LeaseKey, NodeRow, Owned, Vitals};
pub use crate::cluster::limits::shares::{Asked, Divided, Emptied, LimitName};
pub use crate::commit::handoff::{DeliverySlot, DeliverySlots, Desk, Reservation};
pub use crate::copy::{CopyError, copy_ledger};
pub use crate::db::postgres::postgres_version;
pub use crate::db::sqlite::{check_file, check_folder, folder_of, sqlite_version};
pub use crate::error::{LedgerError, OpenError, StaleLease};
pub use crate::model::{
    Accepted, Blocked, Canceled, Claimed, Deadline, Freeing, Judged, KeptAnswer, KeyInUse,
    KeyListing, LaneDepth, LanePlace, Lease, Leased, Listing, NoSerialName, Operation, Overdue,
    Page, Pausing, Piece, ProgressReport, Progressed, Promised, Pruned, Retention, SerialName,
    Settlement, Subject, Unblocked, Want,
};
pub use crate::open::{Location, Opening, Pooler, Server};
pub use crate::operations::reseal::{NoCursor, ResealCursor, Resealed};
pub use crate::page::Listed;
pub use crate::webhooks::{
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

use crate::cache::read_cache::Snapshots;
use crate::cache::{lane_depths, paused_queues, throughput, watch};
use crate::cluster::{hints, nodes};
use crate::commit::committer::Write;
use crate::commit::verb::{Reply, Verb, pending};
use crate::commit::write_queue::{self, WriteQueue};
use crate::db::Identity;
use crate::facade::read_batcher::ReadBatcher;
use crate::operations::{capacity, pause, read};
use crate::state::Shared;
use crate::store::on_store;
use cloakroom_domain::TicketKey;
use cloakroom_domain::sealing::KeyId;
use cloakroom_domain::ticket::LedgerNumber;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

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

impl Ledger {
    /// Opens a ledger and starts committing.
    pub async fn open(opening: Opening, clock: &Clock, tasks: &Tasks) -> Result<Self, OpenError> {
        let sealing_key = opening.keyring.current();
        let (store, identity) = Box::pin(open::store(opening, clock.now())).await?;
        if let Some(now) = nodes::time(&store).await.map_err(|error| store.unreadable(&error))? {
            clock.steer(now);
        }
        let depths = read::depths(&store).await.map_err(|error| store.unreadable(&error))?;
        let waiting = on_store!(&store, reader => read::count_waiting(reader).await)
            .map_err(|error| store.unreadable(&error))?;
        let (queue, turns) = write_queue::queue(store.committers());
        let shared_by_others = store.is_shared();
        let shared = Arc::new(Shared {
            lanes: Arc::new(lane_depths::Lanes::new(shared_by_others)),
            store,
            hints: hints::Hints::new(shared_by_others),
            waiters: watch::Waiters::default(),
            snapshots: Snapshots::default(),
            paused: paused_queues::Paused::default(),
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
            complaints: write_errors::Complaints::default(),
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
        let questions = open::start(&shared, turns, tasks);
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
