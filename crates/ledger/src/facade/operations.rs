//! Operations: accepting them, handing them out, settling and reading them.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::read_batcher;
use crate::Ledger;
use crate::cache::read_cache::Present;
use crate::cache::watch::Watch;
use crate::cluster::fleet::{Dead, LeaseKey};
use crate::commit::committer::Write;
use crate::error::{LedgerError, StaleLease};
use crate::model::{
    Acceptance, Accepted, Canceled, Claimed, Freeing, Judged, KeptAnswer, KeyInUse, KeyListing,
    LanePlace, Leased, Listing, Operation, Overdue, Page, Piece, ProgressReport, Progressed,
    Promised, Pruned, SerialName, Settlement, Unblocked, Want,
};
use crate::operations::{
    Cancel, Claim, ClaimExpired, ClaimOrphans, ClaimOverdue, ClaimWaiting, DiscardBody, Free,
    Prune, Reclaim, RecordVerdict, Release, ReleaseDelayed, Report, WriteChunks,
};
use crate::operations::{bodies, capacity, read, serial_keys};
use crate::page::{self, Listed};
use crate::store::on_store;
use crate::webhooks::FirstCallback;
use cloakroom_domain::operation::{BodyKey, Event, Lane, NewOperation, Status, Verdict};
use cloakroom_domain::pruning::Portion;
use cloakroom_domain::{OperationId, Timestamp};

impl Ledger {
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
        page::tell(&self.shared, "serial", &keys.unread);
        Ok(keys)
    }

    /// An operation as it stands.
    pub async fn find(&self, id: OperationId) -> Result<Option<Operation>, LedgerError> {
        if self.shared.store.is_shared() {
            return read_batcher::find(&self.questions, id).await;
        }
        let reading = match self.shared.snapshots.look(id) {
            Present::Known(operation) => return Ok(Some(*operation)),
            Present::Unknown(reading) => reading,
        };
        let found = read_batcher::find(&self.questions, id).await?;
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
        page::tell(&self.shared, "events", &events.unread);
        Ok(events)
    }

    /// A page of operations, newest first.
    pub async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        let page = on_store!(&self.shared.store, reader => read::list(reader, listing).await)?;
        page::tell(&self.shared, "operations", &page.unread);
        Ok(page)
    }

    /// Tells of a row that a list passed over, because what the ledger keeps sealed for others in it
    /// cannot be opened.
    pub fn passed_over(&self, list: &'static str, why: &str) {
        page::tell(&self.shared, list, &[why.to_owned()]);
    }

    /// What an operation gave rise to, directly and indirectly; at most `limit`.
    pub async fn descendants(
        &self,
        id: OperationId,
        limit: u32,
    ) -> Result<Listed<Operation, OperationId>, LedgerError> {
        let below =
            on_store!(&self.shared.store, reader => read::descendants(reader, id, limit).await)?;
        page::tell(&self.shared, "tree", &below.unread);
        Ok(below)
    }

    /// One piece of a large body.
    pub async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError> {
        on_store!(&self.shared.store, reader => bodies::chunk(reader, body, number).await)
    }

    /// Sees the changes of one operation. Watch first, then read.
    pub fn watch(&self, id: OperationId) -> Watch {
        self.shared.waiters.watch(id)
    }

    /// The running operations that are called off, from now on. The last who asked for
    /// them is told; none of them is lost.
    pub fn cancels(&self) -> mpsc::UnboundedReceiver<OperationId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.listeners() = Some(sender);
        receiver
    }
}
