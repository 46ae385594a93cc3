//! The ledger in a SQLite file: one connection that writes, a few that read.
//!
//! Owns the file (`flock` beside it keeps a second gateway away) and the statements.
//! Its invariant: an operation has exactly one row among `ready`, `running`, `waiting`
//! and `outcomes`. It must not know who asks, or what time it is.

pub(crate) mod by_id;
pub(crate) mod disk_reserve;
pub(crate) mod inspect;
pub(crate) mod open;
pub(crate) mod paths;
pub(crate) mod readers;
pub(crate) mod rows;
pub(crate) mod start;
pub(crate) mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::db::Identity;
pub use crate::db::sqlite::inspect::check_file;
pub use crate::db::sqlite::open::sqlite_version;
pub use crate::db::sqlite::paths::{check_folder, folder_of};
use crate::error::{LedgerError, OpenError};
use crate::model::Retention;
use crate::operations::unreadable::Tasks;
use crate::webhooks::sql::OperationSnapshot;
use crate::webhooks::subscribers::Subscribers;
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::sealer::Sealer;
use cloakroom_domain::sealing::Keyring;

use crate::db::sqlite::disk_reserve::Reserve;
use crate::db::sqlite::open::trouble;
use crate::db::sqlite::readers::Readers;
use crate::db::sqlite::writer::Writer;

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

impl Sqlite {
    /// Says that it could not be read.
    pub(crate) fn unreadable(&self, error: &LedgerError) -> OpenError {
        open::unreadable(&self.path, error)
    }

    /// Begins a writing transaction; what a former one left is undone.
    pub(crate) async fn begin(&self) -> Result<SqliteTransaction, LedgerError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        writer.undo()?;
        let next_seq = writer.next_seq;
        Ok(SqliteTransaction {
            writer,
            book: Arc::clone(&self.book),
            path: self.path.clone(),
            reserve: Arc::clone(&self.reserve),
            next_seq,
            makes_callbacks: false,
            ended: HashMap::new(),
        })
    }

    /// Leaves nothing of what was erased in the log.
    pub(crate) async fn cut_log(&self) -> Result<(), LedgerError> {
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

    /// Lets go of the file.
    pub(crate) async fn close(&self) {
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
