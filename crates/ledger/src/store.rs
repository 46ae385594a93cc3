//! The seam to a database: verbs in batches inside one transaction, and reads.
//!
//! Owns nothing. Each engine implements it; the group commit above it decides what goes
//! into a transaction. `now` is always an argument: an engine asks the database for the
//! time only to pass it on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::error::{LedgerError, OpenError, StaleLease};
use super::fleet::{Beaten, Counted, Dead, LeaseKey, NodeRow, Vitals};
use super::listed::Listed;
use super::permits::{Asking, Divided, Leaving, LimitName};
use super::reconcile::{Step, Stepped, Sweep, Swept};
use super::recount::{Counter, Elsewhere, Glimpse, Place, Recount};
use super::room::Standing;
use super::verbs::{
    AcceptVerdict, Acceptance, Canceled, Claimed, Freeing, Hint, Judged, KeptAnswer, KeyInUse,
    KeyListing, LaneDepth, LanePlace, Leased, Listing, Moved, Operation, Overdue, Page, Pausing,
    Piece, ProgressReport, Progressed, Promised, Pruned, SerialName, SettledAs, Settlement,
    Unblocked, Want,
};
use super::webhooks::{Deliveries, ReadsDeliveries};
use cloakroom_domain::operation::{BodyKey, Event, IdempotencyClaim, Lane, Verdict};
use cloakroom_domain::pruning::Portion;
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
    async fn begin(&self) -> Result<Box<dyn Transaction>, LedgerError>;

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

    /// The next hint of another node. Whoever stops waiting loses what comes meanwhile.
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

    /// Serial keys that somebody holds.
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

/// Verbs inside one transaction. Dropping it undoes them.
#[async_trait]
pub(super) trait Transaction: Send {
    /// Is told of a batch before its verbs are: what others compete for is locked first.
    /// `alone` says that there will be one verb and no other: these settlements, these
    /// acceptances, or one claim.
    async fn prepare(
        &mut self,
        _settlements: &[Settlement],
        _acceptances: &[Acceptance],
        _alone: bool,
    ) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Writes new operations down.
    async fn accept(&mut self, batch: &[Acceptance]) -> Batch<AcceptVerdict>;

    /// Hands out due operations.
    async fn claim(&mut self, wants: &[Want], now: Timestamp, moved: &mut Moved) -> Batch<Claimed>;

    /// Hands out due operations that follow an upstream, for `visible_again` at the latest.
    async fn claim_waiting(
        &mut self,
        wants: &[Want],
        now: Timestamp,
        visible_again: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased>;

    /// Hands out what waits for a serial key past its deadline.
    async fn claim_overdue(
        &mut self,
        limit: usize,
        now: Timestamp,
        visible_again: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased>;

    /// Lets operations go whose delay is over: each to `ready` where its serial key is free and
    /// its turn has come, and behind the key's holder otherwise. How many delays were over, up to
    /// `limit`.
    async fn release_delayed(
        &mut self,
        limit: usize,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<usize, LedgerError>;

    /// Hands out what these nodes held, unless they have beaten since.
    async fn claim_orphans(
        &mut self,
        dead: &[Dead],
        limit: usize,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased>;

    /// Hands out anew what this node was handed, and remembers whether it had begun.
    async fn reclaim(
        &mut self,
        lost: &[LeaseKey],
        begun: bool,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased>;

    /// Writes a beat of this node down, and what it has counted.
    async fn beat(
        &mut self,
        vitals: &Vitals,
        counted: &[Counted],
        now: Timestamp,
    ) -> Result<Beaten, LedgerError>;

    /// Writes down that this node has ended: what it counted is nobody's from now on.
    async fn leave(&mut self, leaving: &Leaving, now: Timestamp) -> Result<(), LedgerError>;

    /// Divides limits between this node and those that are there beside it.
    async fn divide(&mut self, asking: &Asking, now: Timestamp) -> Batch<Divided>;

    /// Hands out those of these that lie in a lane.
    async fn claim_expired(
        &mut self,
        lane: &Lane,
        seqs: &[i64],
        now: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased>;

    /// Commits the ends of attempts with all their effects.
    async fn settle(
        &mut self,
        batch: &[Settlement],
        moved: &mut Moved,
    ) -> Batch<Result<SettledAs, StaleLease>>;

    /// Calls an operation off.
    async fn cancel(
        &mut self,
        id: OperationId,
        freeing: Freeing,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<Canceled, LedgerError>;

    /// Frees request and result of an operation that has ended; false if it has not, or
    /// if there is none.
    async fn free(&mut self, id: OperationId, now: Timestamp) -> Result<bool, LedgerError>;

    /// Writes a progress report down.
    async fn progress(&mut self, report: &ProgressReport) -> Result<Progressed, LedgerError>;

    /// Pauses a queue or resumes it; false if it was so before.
    async fn pause(&mut self, wish: &Pausing) -> Result<bool, LedgerError>;

    /// Writes pieces of large bodies down.
    async fn stash(&mut self, pieces: &[Piece], now: Timestamp) -> Result<(), LedgerError>;

    /// Deletes the pieces of a body, if nothing refers to it.
    async fn discard(&mut self, body: BodyKey) -> Result<(), LedgerError>;

    /// Frees what has expired, a portion of it.
    async fn prune(&mut self, portion: Portion, now: Timestamp) -> Result<Pruned, LedgerError>;

    /// Lets the next of a blocked serial key go.
    async fn unblock(
        &mut self,
        name: SerialName,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<Unblocked, LedgerError>;

    /// Writes down what a person found out about an unknown outcome.
    async fn judge(&mut self, id: OperationId, verdict: &Verdict) -> Result<Judged, LedgerError>;

    /// Looks for what does not add up, one batch.
    async fn reconcile(&mut self, step: Step, moved: &mut Moved) -> Result<Stepped, LedgerError>;

    /// Corrects what is counted in a lane, unless somebody has done so since it was seen.
    async fn recount(&mut self, _recount: &Recount) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Sees to what nodes have left that are gone, and to pieces of bodies that this node wrote
    /// and that no row refers to, one batch.
    async fn sweep(&mut self, sweep: &Sweep) -> Result<Swept, LedgerError>;

    /// The verbs of webhooks, in this transaction.
    fn deliveries(&mut self) -> &mut dyn Deliveries;

    /// Makes all of it durable.
    async fn commit(self: Box<Self>) -> Result<(), LedgerError>;
}
