//! The ledger in a SQLite file: one connection that writes, a few that read.
//!
//! Owns the file (`flock` beside it keeps a second gateway away) and the statements.
//! Its invariant: an operation has exactly one row among `ready`, `running`, `waiting`
//! and `outcomes`. It must not know who asks, or what time it is.

pub(crate) mod batch;
pub(crate) mod belonging;
pub(crate) mod open;
pub(crate) mod place;
pub(crate) mod readers;
pub(crate) mod reserve;
pub(crate) mod rows;
pub(crate) mod start;
pub(crate) mod webhooks;
pub(crate) mod writer;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Identity;
use super::commit::transaction::Transaction;
use super::error::{LedgerError, OpenError};
use super::fleet::NodeRow;
use super::listed::Listed;
use super::store::{Batch, Store};
use super::unread::Tasks;
use super::verbs::{
    KeptAnswer, KeyInUse, KeyListing, LaneDepth, LanePlace, Listing, Operation, Overdue, Page,
    Promised, Pruned, Retention, SerialName,
};
use super::webhooks::ReadsDeliveries;
use super::webhooks::sql::OperationSnapshot;
use super::webhooks::subscribers::Subscribers;
use crate::operations::capacity::Standing;
#[cfg(test)]
pub(crate) use crate::operations::read::sqlite::DESCENDANTS;
use crate::permits::LimitName;
pub use belonging::check_file;
use cloakroom_domain::operation::{BodyKey, Event, IdempotencyClaim, Lane};
use cloakroom_domain::pruning::Portion;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::{OperationId, Timestamp};
pub use open::sqlite_version;
pub use place::{check_folder, folder_of};

use open::trouble;
use readers::Readers;
use reserve::Reserve;
use writer::Writer;

/// How a ledger in a file is opened.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// The SQLite file.
    pub(crate) path: PathBuf,
    /// Connections that read; at least 1.
    pub(crate) readers: u32,
    /// Whether pending migrations are run; otherwise they are an error.
    pub(crate) migrate: bool,
    /// How long things last.
    pub(crate) retention: Retention,
    /// Every lane that operations may be accepted into.
    pub(crate) lanes: Vec<Lane>,
    /// What values are sealed with.
    pub(crate) keyring: Keyring,
}

/// A ledger in a SQLite file.
pub(crate) struct Sqlite {
    pub(crate) path: PathBuf,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) writer: Arc<Mutex<Writer>>,
    pub(crate) readers: Readers,
    pub(crate) book: Arc<Book>,
    /// Former starts that left something running.
    pub(crate) dead: Vec<i64>,
    pub(crate) lock: std::sync::Mutex<Option<open::FileLock>>,
}

/// What does not change while the ledger is open.
pub(crate) struct Book {
    pub(crate) incarnation: i64,
    pub(crate) retention: Retention,
    pub(crate) numbers: HashMap<Lane, i64>,
    pub(crate) lanes: HashMap<i64, Lane>,
    pub(crate) subscribers: Arc<Subscribers>,
    pub(crate) sealer: Sealer,
    pub(crate) tasks: Tasks,
}

impl Book {
    pub(crate) fn number(&self, lane: &Lane) -> Result<i64, LedgerError> {
        let unknown = || rows::damaged(format!("{}/{} is no lane", lane.queue, lane.upstream));
        rows::numbered(lane, |lane| self.numbers.get(lane).copied()).ok_or_else(unknown)
    }

    pub(crate) fn lane(&self, number: i64) -> Result<Lane, LedgerError> {
        let unknown = || rows::damaged(format!("lane {number} is unknown"));
        rows::named(number, |number| self.lanes.get(&number).cloned()).ok_or_else(unknown)
    }
}

/// Takes a file that no gateway uses, brings its schema up to date and reads it.
pub(crate) async fn source(
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
pub(crate) async fn open(
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
pub(crate) struct SqliteTransaction {
    pub(crate) writer: OwnedMutexGuard<Writer>,
    pub(crate) book: Arc<Book>,
    pub(crate) path: PathBuf,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) next_seq: i64,
    pub(crate) makes_callbacks: bool,
    /// Operations that have ended in it, as they stood then, where a receiver may be told.
    pub(crate) ended: HashMap<i64, OperationSnapshot>,
}

impl SqliteTransaction {
    /// Prunes and commits: a full disk is often noticed only then. A prune is alone in its
    /// transaction.
    pub(crate) fn prune_durably(
        &mut self,
        portion: Portion,
        now: Timestamp,
    ) -> Result<Pruned, LedgerError> {
        let pruned = crate::operations::prune::sqlite::prune(self, portion, now)?;
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
        crate::cluster::nodes::sqlite::list(&self.readers).await
    }

    async fn emptied(&self) -> Batch<(LimitName, Timestamp)> {
        crate::cluster::limits::sqlite::emptied(&self.readers).await
    }

    fn unreadable(&self, error: &LedgerError) -> OpenError {
        open::unreadable(&self.path, error)
    }

    async fn begin(&self) -> Result<Transaction, LedgerError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        writer.undo()?;
        let next_seq = writer.next_seq;
        Ok(Transaction::Sqlite(Box::new(SqliteTransaction {
            writer,
            book: Arc::clone(&self.book),
            path: self.path.clone(),
            reserve: Arc::clone(&self.reserve),
            next_seq,
            makes_callbacks: false,
            ended: HashMap::new(),
        })))
    }

    async fn find(&self, ids: &[OperationId]) -> Batch<Option<Operation>> {
        crate::operations::read::sqlite::find(&self.readers, &self.book.sealer, ids).await
    }

    async fn standing(&self, claim: &IdempotencyClaim) -> Result<Option<Standing>, LedgerError> {
        crate::operations::read::sqlite::standing(&self.readers, claim).await
    }

    async fn answer(&self, id: OperationId) -> Result<Option<KeptAnswer>, LedgerError> {
        crate::operations::read::sqlite::answer(&self.readers, &self.book.sealer, id).await
    }

    async fn promised(&self, id: OperationId) -> Result<Option<Promised>, LedgerError> {
        crate::operations::read::sqlite::promised(&self.readers, &self.book.sealer, id).await
    }

    async fn events(
        &self,
        id: OperationId,
        after: u32,
        limit: u32,
    ) -> Result<Listed<Event, u32>, LedgerError> {
        crate::operations::read::sqlite::events(&self.readers, &self.book.sealer, id, after, limit)
            .await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        crate::operations::read::sqlite::list(&self.readers, &self.book.sealer, listing).await
    }

    async fn descendants(
        &self,
        id: OperationId,
        limit: u32,
    ) -> Result<Listed<Operation, OperationId>, LedgerError> {
        crate::operations::read::sqlite::descendants(&self.readers, &self.book.sealer, id, limit)
            .await
    }

    async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError> {
        crate::operations::read::sqlite::piece(&self.readers, &self.book.sealer, body, number).await
    }

    async fn paused(&self) -> Batch<String> {
        crate::operations::read::sqlite::paused(&self.readers).await
    }

    async fn keys(&self, listing: KeyListing) -> Result<Listed<KeyInUse, SerialName>, LedgerError> {
        crate::operations::serial_keys::sqlite::keys(&self.readers, listing).await
    }

    async fn depths(&self) -> Batch<LaneDepth> {
        crate::operations::read::sqlite::depths(&self.readers, &self.book).await
    }

    async fn is_delay_over(&self, now: Timestamp) -> Result<bool, LedgerError> {
        crate::operations::serial_keys::sqlite::is_delay_over(&self.readers, now).await
    }

    async fn waiting(&self) -> Result<u64, LedgerError> {
        crate::operations::read::sqlite::waiting(&self.readers).await
    }

    async fn overdue(
        &self,
        lane: &Lane,
        from: LanePlace,
        look_at: usize,
        now: Timestamp,
    ) -> Result<Overdue, LedgerError> {
        crate::operations::read::sqlite::overdue(
            &self.readers,
            &self.book,
            lane,
            (from, look_at),
            now,
        )
        .await
    }

    async fn oldest_due(&self, lanes: &[Lane]) -> Batch<Option<Timestamp>> {
        crate::operations::read::sqlite::oldest_due(&self.readers, &self.book, lanes).await
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

/// Makes a transaction durable. An error leaves open whether it is.
pub(crate) fn commit(mut writing: SqliteTransaction) -> Result<(), LedgerError> {
    let committed = writing.writer.commit();
    if let Err(LedgerError::NotDurable(_)) = &committed {
        open::mark_suspect(&writing.path);
    }
    committed?;
    writing.writer.next_seq = writing.next_seq;
    writing.reserve.look(&mut writing.writer);
    Ok(())
}
