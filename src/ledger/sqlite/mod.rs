//! The ledger in a SQLite file: one connection that writes, a few that read.
//!
//! Owns the file (`flock` beside it keeps a second gateway away) and the statements.
//! Its invariant: an operation has exactly one row among `ready`, `running`, `waiting`
//! and `outcomes`. It must not know who asks, or what time it is.

mod accept;
mod batch;
mod cancel;
mod claim;
mod finish;
mod open;
mod prune;
mod read;
mod rows;
mod settle;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rand::RngExt;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqlitePoolOptions};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Identity;
use super::error::{LedgerError, OpenError, StaleLease};
use super::store::{Batch, Store, Transaction};
use super::verbs::{
    AcceptVerdict, Acceptance, Canceled, Claimed, Freeing, KeptAnswer, LaneDepth, Leased, Listing,
    Moved, Operation, Page, Piece, ProgressReport, Progressed, Promised, Pruned, Retention,
    SettledAs, Settlement, Want,
};
use crate::domain::operation::{BodyKey, Event, Lane};
use crate::domain::{OperationId, TicketKey, Timestamp};
use batch::Script;
pub use open::sqlite_version;
use open::trouble;

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
}

/// A ledger in a SQLite file.
pub(super) struct Sqlite {
    path: PathBuf,
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
    book: Arc<Book>,
    /// Former starts that left something running.
    dead: Vec<i64>,
    lock: std::sync::Mutex<Option<open::FileLock>>,
}

/// The writing connection and what its transactions hand on.
struct Writer {
    /// None once the ledger is closed.
    connection: Option<SqliteConnection>,
    /// A transaction was begun, or is about to be, and not committed.
    open: bool,
    /// The next operation's place in the order accepted.
    next_seq: i64,
}

/// What does not change while the ledger is open.
struct Book {
    incarnation: i64,
    retention: Retention,
    numbers: HashMap<Lane, i64>,
    lanes: HashMap<i64, Lane>,
}

impl Book {
    fn number(&self, lane: &Lane) -> Result<i64, LedgerError> {
        let unknown = || rows::damaged(format!("{}/{} is no lane", lane.queue, lane.upstream));
        self.numbers.get(lane).copied().ok_or_else(unknown)
    }

    fn lane(&self, number: i64) -> Result<&Lane, LedgerError> {
        self.lanes.get(&number).ok_or_else(|| rows::damaged(format!("lane {number} is unknown")))
    }
}

/// Opens the file, brings its schema up to date and registers this start.
pub(super) async fn open(
    opening: Opening,
    now: Timestamp,
) -> Result<(Sqlite, Identity), OpenError> {
    open::check_library(&sqlite_version())?;
    let lock = open::FileLock::take(&opening.path)?;
    let mut connection = open::writer(&opening).await?;
    open::check_suspect(&mut connection, &opening.path).await?;
    let failed = |error: LedgerError| open::unreadable(&opening.path, error);
    let identity = identity(&mut connection, now).await.map_err(failed)?;
    let book = register(&mut connection, &opening, now).await.map_err(failed)?;
    let next_seq = tidy(&mut connection, now).await.map_err(failed)?;
    let dead = claim::owners(&mut connection).await.map_err(failed)?;
    let readers = SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(opening.readers.max(1))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(open::reader(&opening))
        .await
        .map_err(|error| failed(trouble(error)))?;
    let writer = Writer { connection: Some(connection), open: false, next_seq };
    let sqlite = Sqlite {
        path: opening.path,
        writer: Arc::new(Mutex::new(writer)),
        readers,
        book: Arc::new(book),
        dead,
        lock: std::sync::Mutex::new(Some(lock)),
    };
    Ok((sqlite, identity))
}

/// Reads what the ledger is told apart by; makes it when the ledger is new.
async fn identity(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Identity, LedgerError> {
    let mut rng = rand::rng();
    sqlx::query(
        "INSERT OR IGNORE INTO ledger (one, number, ticket_key, created_at) VALUES (1, ?, ?, ?)",
    )
    .bind(i64::from(rng.random::<u8>()))
    .bind(rng.random::<[u8; 32]>().to_vec())
    .bind(now.as_micros())
    .execute(&mut *connection)
    .await
    .map_err(trouble)?;
    let row = sqlx::query("SELECT number, ticket_key FROM ledger")
        .fetch_one(connection)
        .await
        .map_err(trouble)?;
    let key = rows::get::<&[u8]>(&row, "ticket_key")?.try_into().map_err(rows::damaged)?;
    Ok(Identity { number: rows::get(&row, "number")?, ticket_key: TicketKey::new(key) })
}

/// Writes this start down and learns the lanes.
async fn register(
    connection: &mut SqliteConnection,
    opening: &Opening,
    now: Timestamp,
) -> Result<Book, LedgerError> {
    let started =
        sqlx::query("INSERT INTO nodes (name, version, started_at) VALUES ('local', ?, ?)")
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(now.as_micros())
            .execute(&mut *connection)
            .await
            .map_err(trouble)?;
    for lane in &opening.lanes {
        sqlx::query("INSERT OR IGNORE INTO lanes (queue, upstream, express) VALUES (?, ?, ?)")
            .bind(lane.queue.to_string())
            .bind(lane.upstream.to_string())
            .bind(lane.express)
            .execute(&mut *connection)
            .await
            .map_err(trouble)?;
    }
    let known = sqlx::query("SELECT lane, queue, upstream, express FROM lanes")
        .fetch_all(connection)
        .await
        .map_err(trouble)?;
    let mut lanes = HashMap::new();
    for row in &known {
        let lane = Lane {
            queue: rows::get::<&str>(row, "queue")?.into(),
            upstream: rows::get::<&str>(row, "upstream")?.into(),
            express: rows::get(row, "express")?,
        };
        lanes.insert(rows::get(row, "lane")?, lane);
    }
    let numbers = lanes.iter().map(|(number, lane)| (lane.clone(), *number)).collect();
    Ok(Book {
        incarnation: started.last_insert_rowid(),
        retention: opening.retention,
        numbers,
        lanes,
    })
}

/// Holding the file, what former starts were in the middle of is void: upstreams that
/// were followed are asked at once, and pieces that no row refers to go. Returns the
/// next operation's place.
async fn tidy(connection: &mut SqliteConnection, now: Timestamp) -> Result<i64, LedgerError> {
    sqlx::query("UPDATE waiting SET due_at = ? WHERE due_at > ?")
        .bind(now.as_micros())
        .bind(now.as_micros())
        .execute(&mut *connection)
        .await
        .map_err(trouble)?;
    sqlx::query(
        "DELETE FROM pieces WHERE body NOT IN (SELECT body_key FROM requests WHERE body_key IS NOT NULL)
         AND body NOT IN (SELECT body_key FROM results WHERE body_key IS NOT NULL)",
    )
    .execute(&mut *connection)
    .await
    .map_err(trouble)?;
    let row = sqlx::query("SELECT coalesce(max(seq), 0) FROM operations")
        .fetch_one(connection)
        .await
        .map_err(trouble)?;
    row.try_get::<i64, _>(0).map(|last| last + 1).map_err(rows::damaged)
}

/// One writing transaction.
struct Writing {
    writer: OwnedMutexGuard<Writer>,
    book: Arc<Book>,
    path: PathBuf,
    next_seq: i64,
    /// What is run with the next statement, or with the commit.
    deferred: Option<Script>,
}

impl Writing {
    /// The connection, inside the transaction, behind everything that was written.
    async fn connection(&mut self) -> Result<&mut SqliteConnection, LedgerError> {
        self.flush().await?;
        if self.writer.begins() {
            run(self.writer.connection()?, batch::BEGIN_SQL).await?;
        }
        self.writer.connection()
    }

    /// Keeps a script until something else is asked, so that the last one of the
    /// transaction travels with its commit.
    async fn defer(&mut self, script: Script) -> Result<(), LedgerError> {
        if !script.is_empty() {
            self.flush().await?;
            self.deferred = Some(script);
        }
        Ok(())
    }

    /// Runs what was deferred.
    async fn flush(&mut self) -> Result<(), LedgerError> {
        match self.deferred.take() {
            Some(script) => script.run(&mut self.writer).await,
            None => Ok(()),
        }
    }
}

impl Writer {
    fn connection(&mut self) -> Result<&mut SqliteConnection, LedgerError> {
        let closed = || LedgerError::Unavailable("the ledger is closed".to_owned());
        self.connection.as_mut().ok_or_else(closed)
    }

    /// Whether the transaction is still to begin; whoever asks begins it.
    fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.open, true)
    }
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), LedgerError> {
    sqlx::query(sql).execute(connection).await.map(drop).map_err(trouble)
}

#[async_trait]
impl Store for Sqlite {
    fn incarnation(&self) -> i64 {
        self.book.incarnation
    }

    fn dead_at_open(&self) -> &[i64] {
        &self.dead
    }

    fn unreadable(&self, error: &LedgerError) -> OpenError {
        open::unreadable(&self.path, error)
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, LedgerError> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        if std::mem::take(&mut writer.open) {
            // SQLite may have undone it by itself; then there is nothing to undo.
            if let Err(error) = run(writer.connection()?, "ROLLBACK").await {
                tracing::debug!(%error, "nothing to roll back");
            }
        }
        let next_seq = writer.next_seq;
        Ok(Box::new(Writing {
            writer,
            book: Arc::clone(&self.book),
            path: self.path.clone(),
            next_seq,
            deferred: None,
        }))
    }

    async fn find(&self, ids: &[OperationId]) -> Batch<Option<Operation>> {
        read::find(&self.readers, ids).await
    }

    async fn answer(&self, id: OperationId) -> Result<Option<KeptAnswer>, LedgerError> {
        read::answer(&self.readers, id).await
    }

    async fn promised(&self, id: OperationId) -> Result<Option<Promised>, LedgerError> {
        read::promised(&self.readers, id).await
    }

    async fn events(&self, id: OperationId, after: u32, limit: u32) -> Batch<Event> {
        read::events(&self.readers, id, after, limit).await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        read::list(&self.readers, listing).await
    }

    async fn descendants(&self, id: OperationId, limit: u32) -> Batch<Operation> {
        read::descendants(&self.readers, id, limit).await
    }

    async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError> {
        read::piece(&self.readers, body, number).await
    }

    async fn depths(&self) -> Batch<LaneDepth> {
        read::depths(&self.readers, &self.book).await
    }

    async fn waiting(&self) -> Result<u64, LedgerError> {
        read::waiting(&self.readers).await
    }

    async fn oldest_due(&self, lanes: &[Lane]) -> Batch<Option<Timestamp>> {
        read::oldest_due(&self.readers, &self.book, lanes).await
    }

    async fn close(&self) {
        self.readers.close().await;
        let mut writer = self.writer.lock().await;
        if let Some(mut connection) = writer.connection.take() {
            if writer.open {
                let _ = run(&mut connection, "ROLLBACK").await;
            }
            open::close(connection).await;
        }
        self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }
}

#[async_trait]
impl Transaction for Writing {
    async fn accept(&mut self, batch: &[Acceptance]) -> Batch<AcceptVerdict> {
        accept::accept(self, batch).await
    }

    async fn claim(&mut self, wants: &[Want], now: Timestamp) -> Batch<Claimed> {
        claim::claim(self, wants, now).await
    }

    async fn claim_waiting(
        &mut self,
        limit: usize,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Batch<Leased> {
        claim::claim_waiting(self, limit, now, visible_again).await
    }

    async fn claim_orphans(&mut self, dead: &[i64], limit: usize, now: Timestamp) -> Batch<Leased> {
        claim::claim_orphans(self, dead, limit, now).await
    }

    async fn claim_expired(&mut self, lane: &Lane, limit: usize, now: Timestamp) -> Batch<Leased> {
        claim::claim_expired(self, lane, limit, now).await
    }

    async fn settle(
        &mut self,
        batch: &[Settlement],
        moved: &mut Moved,
    ) -> Batch<Result<SettledAs, StaleLease>> {
        settle::settle(self, batch, moved).await
    }

    async fn cancel(
        &mut self,
        id: OperationId,
        freeing: Freeing,
        now: Timestamp,
        moved: &mut Moved,
    ) -> Result<Canceled, LedgerError> {
        cancel::cancel(self, id, freeing, now, moved).await
    }

    async fn free(&mut self, id: OperationId, now: Timestamp) -> Result<bool, LedgerError> {
        prune::free(self, id, now).await
    }

    async fn progress(&mut self, report: &ProgressReport) -> Result<Progressed, LedgerError> {
        cancel::progress(self, report).await
    }

    async fn stash(&mut self, pieces: &[Piece]) -> Result<(), LedgerError> {
        accept::stash(self, pieces).await
    }

    async fn discard(&mut self, body: BodyKey) -> Result<(), LedgerError> {
        prune::erase_pieces(self, body.0).await
    }

    async fn prune(&mut self, limit: usize, now: Timestamp) -> Result<Pruned, LedgerError> {
        prune::prune(self, limit, now).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), LedgerError> {
        let committed = match self.deferred.take() {
            Some(script) => script.commit(&mut self.writer).await,
            None if self.writer.open => run(self.writer.connection()?, batch::COMMIT_SQL).await,
            None => return Ok(()),
        };
        if let Err(LedgerError::NotDurable(_)) = &committed {
            open::mark_suspect(&self.path);
        }
        committed?;
        self.writer.open = false;
        self.writer.next_seq = self.next_seq;
        Ok(())
    }
}
