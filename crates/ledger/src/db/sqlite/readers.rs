//! The connections that only read.
//!
//! Owns how many there are and for how long one may be used. Its invariant: no statement of a
//! reader runs on past its time, so that a dear question takes no connection from the others for
//! long.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};

use crate::db::sqlite::open::trouble;
use crate::error::LedgerError;
use cloakroom_runtime::clock::Clock;

/// How long a free connection is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may be used by one caller.
const LIMIT: Duration = Duration::from_secs(5);
/// Steps of SQLite's machine between two looks at the clock: about a tenth of a millisecond.
const STEPS: i32 = 5_000;

/// Connections that only read.
pub(crate) struct Readers {
    idle: Mutex<Vec<Arc<tokio::sync::Mutex<Timed>>>>,
    slots: Semaphore,
    limit: Duration,
    /// The real one: a file is as slow as it is, whatever a test's clock says.
    clock: Clock,
}

/// A connection whose statements end at a time.
struct Timed {
    connection: SqliteConnection,
    /// In microseconds of the clock's monotonic time.
    ends_at: Arc<AtomicU64>,
}

/// A connection that is lent. It goes back when this is dropped.
pub(crate) struct Reader<'r> {
    timed: OwnedMutexGuard<Timed>,
    readers: &'r Readers,
    _slot: SemaphorePermit<'r>,
}

impl Readers {
    /// Opens all of them: none is opened later, when there may be no files left.
    pub(crate) async fn open(
        options: &SqliteConnectOptions,
        count: u32,
    ) -> Result<Self, LedgerError> {
        Self::open_with(options, count, LIMIT).await
    }

    async fn open_with(
        options: &SqliteConnectOptions,
        count: u32,
        limit: Duration,
    ) -> Result<Self, LedgerError> {
        let clock = Clock::system();
        let mut idle = Vec::new();
        for _ in 0..count {
            let timed = Timed::open(options, clock.clone()).await?;
            idle.push(Arc::new(tokio::sync::Mutex::new(timed)));
        }
        Ok(Self { idle: Mutex::new(idle), slots: Semaphore::new(count as usize), limit, clock })
    }

    /// Lends a connection for a question that a caller waits for.
    pub(crate) async fn acquire(&self) -> Result<Reader<'_>, LedgerError> {
        self.lend(Some(self.limit)).await
    }

    /// Lends a connection for as long as it takes: at the start only.
    pub(crate) async fn acquire_for_long(&self) -> Result<Reader<'_>, LedgerError> {
        self.lend(None).await
    }

    async fn lend(&self, limit: Option<Duration>) -> Result<Reader<'_>, LedgerError> {
        let closed = || LedgerError::Unavailable("the ledger is closed".to_owned());
        let slot = self.clock.timeout(PATIENCE, self.slots.acquire()).await;
        let busy = |_| LedgerError::Unavailable("all readers of the ledger are busy".to_owned());
        let slot = slot.map_err(busy)?.map_err(|_| closed())?;
        let timed = self.idle().pop().ok_or_else(closed)?;
        // Its last user is about to let go of it, if at all.
        let timed = timed.lock_owned().await;
        let ends_at = limit.map_or(Duration::MAX, |limit| self.clock.elapsed() + limit);
        timed.ends_at.store(micros(ends_at), Ordering::Relaxed);
        Ok(Reader { timed, readers: self, _slot: slot })
    }

    /// Lends nothing from now on.
    pub(crate) async fn close(&self) {
        self.slots.close();
        let idle = std::mem::take(&mut *self.idle());
        for timed in idle.into_iter().filter_map(Arc::into_inner) {
            // Dropped, it would let go of the file only after the next opening.
            let _ = timed.into_inner().connection.close().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<tokio::sync::Mutex<Timed>>>> {
        // Each change leaves it whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timed {
    async fn open(options: &SqliteConnectOptions, clock: Clock) -> Result<Self, LedgerError> {
        let mut connection = options.connect().await.map_err(trouble)?;
        let ends_at = Arc::new(AtomicU64::new(u64::MAX));
        let end = Arc::clone(&ends_at);
        let goes_on = move || micros(clock.elapsed()) <= end.load(Ordering::Relaxed);
        connection.lock_handle().await.map_err(trouble)?.set_progress_handler(STEPS, goes_on);
        Ok(Self { connection, ends_at })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.readers.idle().push(Arc::clone(OwnedMutexGuard::mutex(&self.timed)));
    }
}

impl Deref for Reader<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.timed.connection
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.timed.connection
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    /// Counts so far, and holds its connection meanwhile.
    const COUNTING: &str = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?) \
         SELECT count(*) AS counted FROM n";

    async fn count(readers: &Readers, to: i64) -> Result<i64, LedgerError> {
        let query = sqlx::query(COUNTING).bind(to);
        let row = query.fetch_one(&mut *readers.acquire().await?).await.map_err(trouble)?;
        row.try_get("counted").map_err(trouble)
    }

    #[tokio::test]
    async fn a_question_that_takes_too_long_ends_and_the_next_one_has_its_whole_time() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("empty.db"))
            .create_if_missing(true);
        let limit = Duration::from_millis(200);
        let readers = Readers::open_with(&options, 1, limit).await.unwrap();
        for _ in 0..2 {
            let late = count(&readers, 1_000_000_000).await.unwrap_err();
            assert!(matches!(late, LedgerError::Unavailable(_)), "{late}");
            assert_eq!(count(&readers, 1_000).await.unwrap(), 1_000);
        }
        readers.close().await;
        assert!(count(&readers, 1).await.is_err());
    }
}
