//! The reads of a ledger, and the begin of its writing transactions.
//!
//! Owns nothing. Each backend implements it. `now` is always an argument: an engine asks the database for the
//! time only to pass it on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::commit::transaction::Transaction;
use super::error::{LedgerError, OpenError};
use super::fleet::NodeRow;
use super::listed::Listed;
use super::permits::LimitName;
use super::recount::{Counter, Elsewhere, Glimpse, Place};
use super::verbs::{
    Hint, KeptAnswer, KeyInUse, KeyListing, LaneDepth, LanePlace, Listing, Operation, Overdue,
    Page, Promised, SerialName,
};
use super::webhooks::ReadsDeliveries;
use crate::operations::capacity::Standing;
use cloakroom_domain::operation::{BodyKey, Event, IdempotencyClaim, Lane};
use cloakroom_domain::{OperationId, Timestamp};

/// How long a node is remembered that has not beaten any more.
pub(super) const NODES_KEPT: Duration = Duration::from_hours(24);

/// What a batch verb answers: one entry for each of its arguments, in their order.
pub(super) type Batch<T> = Result<Vec<T>, LedgerError>;

/// A database that keeps the ledger.
#[async_trait]
pub(super) trait Store: Send + Sync + 'static {
    /// How many transactions may write at once.
    fn committers(&self) -> usize {
        1
    }

    /// Whether other processes write to it too, so that what this one remembers of it
    /// may have changed.
    fn is_shared(&self) -> bool {
        false
    }

    /// The number of this start, which rows that it runs name as their owner.
    fn incarnation(&self) -> i64;

    /// The incarnations that were known to be dead when it was opened.
    fn dead_at_open(&self) -> &[i64];

    /// This node can do these tasks and no others.
    fn knows_tasks(&self, names: HashSet<Arc<str>>);

    /// The database's time, where it has one of its own.
    async fn time(&self) -> Result<Option<Timestamp>, LedgerError> {
        Ok(None)
    }

    /// Every node that is remembered, the latest start first.
    async fn nodes(&self) -> Batch<NodeRow>;

    /// Says that it could not be read.
    fn unreadable(&self, error: &LedgerError) -> OpenError;

    /// Begins a writing transaction. At most one is open at a time for each committer.
    async fn begin(&self) -> Result<Transaction, LedgerError>;

    /// The operations with these ids; `None` where there is no such row.
    async fn find(&self, ids: &[OperationId]) -> Batch<Option<Operation>>;

    /// The number of the latest event of each of these that exists, for a store that
    /// others write to.
    async fn sequences(&self, _ids: &[OperationId]) -> Batch<(OperationId, u32)> {
        Ok(Vec::new())
    }

    /// What this node runs and others have called off, for a store that others write to.
    async fn called_off(&self) -> Batch<OperationId> {
        Ok(Vec::new())
    }

    /// Attempts that run on other nodes, by limit, for a store that others write to.
    async fn used_elsewhere(&self) -> Batch<(LimitName, u64)> {
        Ok(Vec::new())
    }

    /// When the buckets of rates were last empty.
    async fn emptied(&self) -> Batch<(LimitName, Timestamp)>;

    /// Every lane, also those that others have made since it was opened, for a store that
    /// others write to.
    async fn learn_lanes(&self) -> Batch<Lane> {
        Ok(Vec::new())
    }

    /// Whom a key stands for.
    async fn standing(&self, claim: &IdempotencyClaim) -> Result<Option<Standing>, LedgerError>;

    /// How many operations lie in these lanes, counted up to so many, for a store that
    /// others write to.
    async fn count_up_to(&self, _lanes: &[Lane], _most: u64) -> Result<u64, LedgerError> {
        Ok(0)
    }

    /// Octets that are stored for operations of these lanes that have not ended, for a store that
    /// others write to.
    async fn stored_in(&self, _lanes: &[Lane]) -> Result<u64, LedgerError> {
        Ok(0)
    }

    /// What the others have counted in a part of a lane; none where no other node counts.
    async fn counted_elsewhere(
        &self,
        _counter: &Counter,
    ) -> Result<Option<Elsewhere>, LedgerError> {
        Ok(None)
    }

    /// What lies in a part of a lane and what others have told of it, at one moment: rows are
    /// counted up to `most`, and there is nothing to say of one with more.
    async fn glimpse(
        &self,
        _counter: &Counter,
        _most: u64,
    ) -> Result<Option<Glimpse>, LedgerError> {
        Ok(None)
    }

    /// Counts the next operations of a part of a lane, a batch of them, and says where to go on.
    async fn count_some(
        &self,
        _counter: &Counter,
        _behind: Place,
    ) -> Result<(i64, Option<Place>), LedgerError> {
        Ok((0, None))
    }

    /// Hurries the other nodes. It may get lost.
    async fn tell(&self, _hint: Hint) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Whether there is room for what clients send.
    fn has_room(&self) -> bool {
        true
    }

    /// Leaves nothing of what was erased in a log of its own, where the store has one.
    async fn cut_log(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    /// The next hint of another node. A caller that stops waiting loses hints that come meanwhile.
    async fn hear(&self) -> Hint {
        std::future::pending().await
    }

    /// The recorded answer.
    async fn answer(&self, id: OperationId) -> Result<Option<KeptAnswer>, LedgerError>;

    /// What it was accepted as, as long as that has not been freed.
    async fn promised(&self, id: OperationId) -> Result<Option<Promised>, LedgerError>;

    /// The timeline behind event number `after`, at most `limit` events.
    async fn events(
        &self,
        id: OperationId,
        after: u32,
        limit: u32,
    ) -> Result<Listed<Event, u32>, LedgerError>;

    /// A page of operations.
    async fn list(&self, listing: &Listing) -> Result<Page, LedgerError>;

    /// What the operation gave rise to, and what that gave rise to; at most `limit`.
    async fn descendants(
        &self,
        id: OperationId,
        limit: u32,
    ) -> Result<Listed<Operation, OperationId>, LedgerError>;

    /// Serial keys that operations hold.
    async fn keys(&self, listing: KeyListing) -> Result<Listed<KeyInUse, SerialName>, LedgerError>;

    /// One piece of a large body.
    async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError>;

    /// The queues that are paused.
    async fn paused(&self) -> Batch<String>;

    /// Every known lane with how much lies in it. May walk whole lanes: for the start only.
    async fn depths(&self) -> Batch<LaneDepth>;

    /// Whether the delay of an operation with a serial key is over.
    async fn is_delay_over(&self, now: Timestamp) -> Result<bool, LedgerError>;

    /// How many operations wait. Counts rows: for the start only.
    async fn waiting(&self) -> Result<u64, LedgerError>;

    /// What lies in a lane past its deadline, among so many operations from that place on.
    async fn overdue(
        &self,
        lane: &Lane,
        from: LanePlace,
        look_at: usize,
        now: Timestamp,
    ) -> Result<Overdue, LedgerError>;

    /// When the oldest operation of each of these lanes is due.
    async fn oldest_due(&self, lanes: &[Lane]) -> Batch<Option<Timestamp>>;

    /// What is read about webhooks.
    fn deliveries(&self) -> &dyn ReadsDeliveries;

    /// Lets go of the database.
    async fn close(&self);
}
