//! The ledger in a SQLite file: one connection that writes, a few that read.
//!
//! Owns the file (`flock` beside it keeps a second gateway away) and the statements.
//! Its invariant: an operation has exactly one row among `ready`, `running`, `waiting`
//! and `outcomes`. It must not know who asks, or what time it is.

mod accept;
mod batch;
mod belonging;
mod cancel;
mod claim;
mod finish;
mod nodes;
mod open;
mod permits;
mod place;
mod prune;
mod read;
mod readers;
mod reconcile;
mod reserve;
mod retried;
mod rows;
mod serial;
mod settle;
mod start;
mod verdict;
mod webhooks;
mod writer;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Identity;
use super::error::{LedgerError, OpenError, StaleLease};
use super::fleet::{Beaten, Counted, Dead, LeaseKey, NodeRow, Vitals};
use super::listed::Listed;
use super::permits::{Asking, Divided, Leaving, LimitName};
use super::reconcile::{Step, Stepped, Sweep, Swept};
use super::room::Standing;
use super::store::{Batch, Store, Transaction};
use super::unread::Tasks;
use super::verbs::{
    AcceptVerdict, Acceptance, Canceled, Claimed, Freeing, Judged, KeptAnswer, KeyInUse,
    KeyListing, LaneDepth, LanePlace, Leased, Listing, Moved, Operation, Overdue, Page, Pausing,
    Piece, ProgressReport, Progressed, Promised, Pruned, Retention, SerialName, SettledAs,
    Settlement, Unblocked, Want,
};
use super::webhooks::sql::Announced;
use super::webhooks::subscribers::Subscribers;
use super::webhooks::{Deliveries, ReadsDeliveries};
pub use belonging::check_file;
use cloakroom_domain::operation::{BodyKey, Event, IdempotencyClaim, Lane, Verdict};
use cloakroom_domain::pruning::Portion;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::{OperationId, Timestamp};
pub use open::sqlite_version;
pub use place::{check_folder, folder_of};
#[cfg(test)]
pub(super) use read::DESCENDANTS;

use open::trouble;
use readers::Readers;
use reserve::Reserve;
use writer::Writer;

/// How a ledger in a file is opened.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// The SQLite file.
    pub(super) path: PathBuf,
    /// Connections that read; at least 1.
    pub(super) readers: u32,
    /// Whether pending migrations are run; otherwise they are an error.
    pub(super) migrate: bool,
    /// How long things last.
    pub(super) retention: Retention,
    /// Every lane that operations may be accepted into.
    pub(super) lanes: Vec<Lane>,
    /// What values are sealed with.
    pub(super) keyring: Keyring,
}

/// A ledger in a SQLite file.
pub(super) struct Sqlite {
    path: PathBuf,
    reserve: Arc<Reserve>,
    writer: Arc<Mutex<Writer>>,
    readers: Readers,
    book: Arc<Book>,
    /// Former starts that left something running.
    dead: Vec<i64>,
    lock: std::sync::Mutex<Option<open::FileLock>>,
}

/// What does not change while the ledger is open.
struct Book {
    incarnation: i64,
    retention: Retention,
    numbers: HashMap<Lane, i64>,
    lanes: HashMap<i64, Lane>,
    subscribers: Arc<Subscribers>,
    sealer: Sealer,
    tasks: Tasks,
}

impl Book {
    fn number(&self, lane: &Lane) -> Result<i64, LedgerError> {
        let unknown = || rows::damaged(format!("{}/{} is no lane", lane.queue, lane.upstream));
        rows::numbered(lane, |lane| self.numbers.get(lane).copied()).ok_or_else(unknown)
    }

    fn lane(&self, number: i64) -> Result<Lane, LedgerError> {
        let unknown = || rows::damaged(format!("lane {number} is unknown"));
        rows::named(number, |number| self.lanes.get(&number).cloned()).ok_or_else(unknown)
    }
}

/// Takes a file that no gateway uses, brings its schema up to date and reads it.
pub(super) async fn source(
    path: &Path,
) -> Result<(impl Sized + use<>, sqlx::SqliteConnection), OpenError> {
    open::check_library(&sqlite_version())?;
    check_file(path)?;
    let lock = open::FileLock::take(path)?;
    let forever = std::time::Duration::MAX;
    let opening = Opening {
        path: path.to_owned(),
        readers: 1,
        migrate: true,
        retention: Retention { result: forever, operation: forever },
        lanes: Vec::new(),
        keyring: Keyring::default(),
    };
    let mut connection = open::opener(&opening).await?;
    open::check_suspect(&mut connection, path).await?;
    Ok((lock, connection))
}

/// Opens the file, brings its schema up to date and registers this start.
pub(super) async fn open(
    opening: Opening,
    now: Timestamp,
) -> Result<(Sqlite, Identity), OpenError> {
    open::check_library(&sqlite_version())?;
    check_file(&opening.path)?;
    let lock = open::FileLock::take(&opening.path)?;
    let mut connection = open::opener(&opening).await?;
    open::check_suspect(&mut connection, &opening.path).await?;
    let failed = |error: LedgerError| open::unreadable(&opening.path, error);
    let missing = start::missing_keys(&mut connection, &opening.keyring).await.map_err(failed)?;
    if let Some(keys) = missing {
        // Dropped, it would let go of the file only after the next opening.
        let _ = connection.close().await;
        return Err(OpenError::MissingKeys { path: opening.path.display().to_string(), keys });
    }
    let identity = start::identity(&mut connection, now).await.map_err(failed)?;
    let book = start::register(&mut connection, &opening, now).await.map_err(failed)?;
    let next_seq = start::tidy(&mut connection, now).await.map_err(failed)?;
    let dead = start::owners(&mut connection).await.map_err(failed)?;
    let readers = Readers::open(&open::reader(&opening), opening.readers.max(1)).await;
    let readers = readers.map_err(failed)?;
    let reserve = Arc::new(Reserve::of(&opening.path));
    let mut writer = open::writer(&opening.path, next_seq).map_err(failed)?;
    writer.write_back_after(open::checkpoint_pages(reserve.is_scarce())).map_err(failed)?;
    reserve.look(&mut writer);
    connection.close().await.map_err(|error| failed(trouble(error)))?;
    let sqlite = Sqlite {
        path: opening.path,
        reserve,
        writer: Arc::new(Mutex::new(writer)),
        readers,
        book: Arc::new(book),
        dead,
        lock: std::sync::Mutex::new(Some(lock)),
    };
    Ok((sqlite, identity))
}

/// One writing transaction.
struct Writing {
    writer: OwnedMutexGuard<Writer>,
    book: Arc<Book>,
    path: PathBuf,
    reserve: Arc<Reserve>,
    next_seq: i64,
    makes_callbacks: bool,
    /// Operations that have ended in it, as they stood then, where somebody may be told.
    ended: HashMap<i64, Announced>,
}

impl Writing {
    /// Prunes and commits: a full disk is often noticed only then. A prune is alone in its
    /// transaction.
    fn prune_durably(&mut self, portion: Portion, now: Timestamp) -> Result<Pruned, LedgerError> {
        let pruned = prune::prune(self, portion, now)?;
        self.writer.commit()?;
        Ok(pruned)
    }
}

#[async_trait]
impl Store for Sqlite {
    fn incarnation(&self) -> i64 {
        self.book.incarnation
    }

    fn knows_tasks(&self, names: HashSet<Arc<str>>) {
        self.book.tasks.are(names);
    }

    fn dead_at_open(&self) -> &[i64] {
        &self.dead
    }

    async fn nodes(&self) -> Batch<NodeRow> {
        nodes::list(&self.readers).await
    }

    async fn emptied(&self) -> Batch<(LimitName, Timestamp)> {
        permits::emptied(&self.readers).await
    }

    fn unreadable(&self, error: &LedgerError) -> OpenError {
        open::unreadable(&self.path, error)
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, LedgerError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        writer.undo()?;
        let next_seq = writer.next_seq;
        Ok(Box::new(Writing {
            writer,
            book: Arc::clone(&self.book),
            path: self.path.clone(),
            reserve: Arc::clone(&self.reserve),
            next_seq,
            makes_callbacks: false,
            ended: HashMap::new(),
        }))
    }

    async fn find(&self, ids: &[OperationId]) -> Batch<Option<Operation>> {
        read::find(&self.readers, &self.book.sealer, ids).await
    }

    async fn standing(&self, claim: &IdempotencyClaim) -> Result<Option<Standing>, LedgerError> {
        read::standing(&self.readers, claim).await
    }

    async fn answer(&self, id: OperationId) -> Result<Option<KeptAnswer>, LedgerError> {
        read::answer(&self.readers, &self.book.sealer, id).await
    }

    async fn promised(&self, id: OperationId) -> Result<Option<Promised>, LedgerError> {
        read::promised(&self.readers, &self.book.sealer, id).await
    }

    async fn events(
        &self,
        id: OperationId,
        after: u32,
        limit: u32,
    ) -> Result<Listed<Event, u32>, LedgerError> {
        read::events(&self.readers, &self.book.sealer, id, after, limit).await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        read::list(&self.readers, &self.book.sealer, listing).await
    }

    async fn descendants(
        &self,
        id: OperationId,
        limit: u32,
    ) -> Result<Listed<Operation, OperationId>, LedgerError> {
        read::descendants(&self.readers, &self.book.sealer, id, limit).await
    }

    async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError> {
        read::piece(&self.readers, &self.book.sealer, body, number).await
    }

    async fn paused(&self) -> Batch<String> {
        read::paused(&self.readers).await
    }

    async fn keys(&self, listing: KeyListing) -> Result<Listed<KeyInUse, SerialName>, LedgerError> {
        serial::keys(&self.readers, listing).await
    }

    async fn depths(&self) -> Batch<LaneDepth> {
        read::depths(&self.readers, &self.book).await
    }

    async fn is_delay_over(&self, now: Timestamp) -> Result<bool, LedgerError> {
        serial::is_delay_over(&self.readers, now).await
    }

    async fn waiting(&self) -> Result<u64, LedgerError> {
        read::waiting(&self.readers).await
    }

    async fn overdue(
        &self,
        lane: &Lane,
        from: LanePlace,
        look_at: usize,
        now: Timestamp,
    ) -> Result<Overdue, LedgerError> {
        read::overdue(&self.readers, &self.book, lane, (from, look_at), now).await
    }

    async fn oldest_due(&self, lanes: &[Lane]) -> Batch<Option<Timestamp>> {
        read::oldest_due(&self.readers, &self.book, lanes).await
    }

    fn deliveries(&self) -> &dyn ReadsDeliveries {
        self
    }

    fn has_room(&self) -> bool {
        self.reserve.has_room()
    }

    async fn cut_log(&self) -> Result<(), LedgerError> {
        self.reserve.retry();
        self.reserve.look(&mut *self.writer.lock().await);
        if !open::has_log(&self.path) {
            return Ok(());
        }
        let mut writer = self.writer.lock().await;
        let cut = writer.cut_log();
        writer.write_back_after(open::checkpoint_pages(self.reserve.is_scarce()))?;
        drop(writer);
        if let Err(LedgerError::NotDurable(_)) = &cut {
            open::mark_suspect(&self.path);
        }
        // A reader in the way is gone the next time.
        cut.map(drop)
    }

    async fn close(&self) {
        self.readers.close().await;
        if let Err(error) = self.writer.lock().await.close() {
            tracing::warn!(%error, "could not write the ledger's log back and close it");
        }
        self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }
}

#[async_trait]
impl Transaction for Writing {
    async fn accept(&mut self, batch: &[Acceptance]) -> Batch<AcceptVerdict> {
        accept::accept(self, batch).await
    }

    async fn claim(&mut self, wants: &[Want], now: Timestamp, moved: &mut Moved) -> Batch<Claimed> {
        claim::claim(self, wants, now, moved)
    }

    async fn claim_waiting(
        &mut self,
        wants: &[Want],
        now: Timestamp,
        visible_again: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased> {
        claim::claim_waiting(self, wants, now, visible_again, moved)
    }

    async fn claim_overdue(
        &mut self,
        limit: usize,
        now: Timestamp,
        visible_again: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased> {
        claim::claim_overdue(self, limit, now, visible_again, moved)
    }

    async fn release_delayed(
        &mut self,
        limit: usize,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<usize, LedgerError> {
        serial::release_delayed(self, limit, now, moved)
    }

    async fn claim_orphans(
        &mut self,
        dead: &[Dead],
        limit: usize,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased> {
        claim::claim_orphans(self, dead, limit, now, moved)
    }

    async fn reclaim(
        &mut self,
        lost: &[LeaseKey],
        begun: bool,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased> {
        claim::reclaim(self, lost, begun, now, moved)
    }

    async fn beat(
        &mut self,
        vitals: &Vitals,
        _counted: &[Counted],
        now: Timestamp,
    ) -> Result<Beaten, LedgerError> {
        nodes::beat(self, vitals, now)
    }

    async fn leave(&mut self, leaving: &Leaving, now: Timestamp) -> Result<(), LedgerError> {
        nodes::leave(self, leaving, now)
    }

    async fn divide(&mut self, asking: &Asking, now: Timestamp) -> Batch<Divided> {
        permits::divide(self, asking, now)
    }

    async fn claim_expired(
        &mut self,
        lane: &Lane,
        seqs: &[i64],
        now: Timestamp,
        moved: &mut Moved,
    ) -> Batch<Leased> {
        claim::claim_expired(self, lane, seqs, now, moved)
    }

    async fn settle(
        &mut self,
        batch: &[Settlement],
        moved: &mut Moved,
    ) -> Batch<Result<SettledAs, StaleLease>> {
        settle::settle(self, batch, moved)
    }

    async fn cancel(
        &mut self,
        id: OperationId,
        freeing: Freeing,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<Canceled, LedgerError> {
        cancel::cancel(self, id, freeing, now, moved)
    }

    async fn free(&mut self, id: OperationId, now: Timestamp) -> Result<bool, LedgerError> {
        prune::free(self, id, now)
    }

    async fn progress(&mut self, report: &ProgressReport) -> Result<Progressed, LedgerError> {
        cancel::progress(self, report)
    }

    async fn pause(&mut self, wish: &Pausing) -> Result<bool, LedgerError> {
        cancel::pause(self, wish)
    }

    async fn stash(&mut self, pieces: &[Piece], now: Timestamp) -> Result<(), LedgerError> {
        accept::stash(self, pieces, now)
    }

    async fn discard(&mut self, body: BodyKey) -> Result<(), LedgerError> {
        prune::erase_pieces(self, body.0)
    }

    async fn prune(&mut self, portion: Portion, now: Timestamp) -> Result<Pruned, LedgerError> {
        match self.prune_durably(portion, now) {
            Err(LedgerError::Full) => {
                self.reserve.give_up();
                // The log has a length of its own to give back, once the file has all that is in it.
                if let Err(error) = self.writer.cut_log() {
                    tracing::debug!(%error, "the log could not be cut on a full disk");
                }
                self.prune_durably(Portion::SMALL, now)
            }
            pruned => pruned,
        }
    }

    async fn unblock(
        &mut self,
        name: SerialName,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<Unblocked, LedgerError> {
        serial::unblock(self, name, now, moved)
    }

    async fn judge(&mut self, id: OperationId, verdict: &Verdict) -> Result<Judged, LedgerError> {
        verdict::judge(self, id, verdict)
    }

    async fn reconcile(&mut self, step: Step, moved: &mut Moved) -> Result<Stepped, LedgerError> {
        reconcile::reconcile(self, step, moved)
    }

    async fn sweep(&mut self, sweep: &Sweep) -> Result<Swept, LedgerError> {
        reconcile::sweep(self, sweep)
    }

    fn deliveries(&mut self) -> &mut dyn Deliveries {
        self
    }

    async fn commit(mut self: Box<Self>) -> Result<(), LedgerError> {
        let committed = self.writer.commit();
        if let Err(LedgerError::NotDurable(_)) = &committed {
            open::mark_suspect(&self.path);
        }
        committed?;
        self.writer.next_seq = self.next_seq;
        self.reserve.look(&mut self.writer);
        Ok(())
    }
}
