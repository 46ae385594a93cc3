//! The database that keeps the ledger.
//!
//! Owns which backend that is. Reads look into it for the backend that they ask; `now` is always an
//! argument.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::transaction::Transaction;
use crate::db::postgres::Postgres;
use crate::db::sqlite::Sqlite;
use crate::error::{LedgerError, OpenError};
use crate::model::Hint;
use cloakroom_domain::operation::Lane;

/// How long a node is remembered that has not beaten any more.
pub(super) const NODES_KEPT: Duration = Duration::from_hours(24);

/// What a batch verb answers: one entry for each of its arguments, in their order.
pub(super) type Batch<T> = Result<Vec<T>, LedgerError>;

/// A database that keeps the ledger.
pub(crate) enum Store {
    /// A SQLite file.
    Sqlite(Box<Sqlite>),
    /// A PostgreSQL database.
    Postgres(Box<Postgres>),
}

/// Asks the reader of either backend in the same words.
macro_rules! on_store {
    ($store:expr, $reader:ident => $ask:expr) => {
        match $store {
            $crate::store::Store::Sqlite($reader) => {
                let $reader = &**$reader;
                $ask
            }
            $crate::store::Store::Postgres($reader) => {
                let $reader = &**$reader;
                $ask
            }
        }
    };
}
pub(crate) use on_store;

/// Calls the read of that name in the caller's `sqlite` or `postgres` module.
macro_rules! read_by_backend {
    ($store:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $store {
            $crate::store::Store::Sqlite(reader) => {
                sqlite::$function(reader, $($argument),*).await
            }
            $crate::store::Store::Postgres(reader) => {
                postgres::$function(reader, $($argument),*).await
            }
        }
    };
}
pub(crate) use read_by_backend;

impl Store {
    /// How many transactions may write at once.
    pub(crate) fn committers(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(postgres) => postgres.committers(),
        }
    }

    /// Whether other processes write to it too, so that what this one remembers of it
    /// may have changed.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// The number of this start, which rows that it runs name as their owner.
    pub(crate) fn incarnation(&self) -> i64 {
        match self {
            Self::Sqlite(sqlite) => sqlite.book.incarnation,
            Self::Postgres(postgres) => postgres.book.incarnation,
        }
    }

    /// The incarnations that were known to be dead when it was opened.
    pub(crate) fn dead_at_open(&self) -> &[i64] {
        match self {
            Self::Sqlite(sqlite) => &sqlite.dead,
            Self::Postgres(postgres) => &postgres.dead,
        }
    }

    /// This node can do these tasks and no others.
    pub(crate) fn knows_tasks(&self, names: HashSet<Arc<str>>) {
        match self {
            Self::Sqlite(sqlite) => sqlite.book.tasks.are(names),
            Self::Postgres(postgres) => postgres.book.tasks.are(names),
        }
    }

    /// Says that it could not be read.
    pub(crate) fn unreadable(&self, error: &LedgerError) -> OpenError {
        match self {
            Self::Sqlite(sqlite) => sqlite.unreadable(error),
            Self::Postgres(postgres) => postgres.unreadable(error),
        }
    }

    /// Begins a writing transaction. At most one is open at a time for each committer.
    pub(crate) async fn begin(&self) -> Result<Transaction, LedgerError> {
        Ok(match self {
            Self::Sqlite(sqlite) => Transaction::Sqlite(Box::new(sqlite.begin().await?)),
            Self::Postgres(postgres) => Transaction::Postgres(Box::new(postgres.begin())),
        })
    }

    /// Every lane, also those that others have made since it was opened, where other processes
    /// write too.
    pub(crate) async fn learn_lanes(&self) -> Batch<Lane> {
        match self {
            Self::Sqlite(_) => Ok(Vec::new()),
            Self::Postgres(postgres) => postgres.learn_lanes().await,
        }
    }

    /// Hurries the other nodes. It may get lost.
    pub(crate) async fn tell(&self, hint: Hint) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(postgres) => postgres.tell(&hint).await,
        }
    }

    /// The next hint of another node. A caller that stops waiting loses hints that come meanwhile.
    pub(crate) async fn hear(&self) -> Hint {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Postgres(postgres) => postgres.hear().await,
        }
    }

    /// Whether there is room for what clients send.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Sqlite(sqlite) => sqlite.reserve.has_room(),
            Self::Postgres(_) => true,
        }
    }

    /// Leaves nothing of what was erased in a log of its own, where the store has one.
    pub(crate) async fn cut_log(&self) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.cut_log().await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Lets go of the database.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}
