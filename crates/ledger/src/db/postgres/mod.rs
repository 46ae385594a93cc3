//! The ledger in a PostgreSQL database, which many gateways write to at once.
//!
//! Owns the connections and the statements. Its invariants: an operation has exactly one
//! row among `ready`, `running`, `waiting` and `outcomes`; nothing is kept in a session,
//! so that a pooler may lie between; every wait has an end. It must not know who asks, or
//! what time it is.

pub(crate) mod arrays;
pub(crate) mod catalog;
pub(crate) mod inspect;
pub(crate) mod lookups;
pub(crate) mod map_error;
pub(crate) mod notifications;
pub(crate) mod open;
pub(crate) mod owned_rows;
pub(crate) mod pool;
pub(crate) mod refusals;
pub(crate) mod transaction;
pub(crate) mod watermarks;

use std::sync::Arc;

use crate::db::Identity;
use crate::db::postgres::arrays::Values;
pub(crate) use crate::db::postgres::arrays::storable;
use crate::db::postgres::catalog::Book;
use crate::db::postgres::notifications::Ears;
pub use crate::db::postgres::open::postgres_version;
pub(crate) use crate::db::postgres::open::{MOVED, target};
use crate::db::postgres::pool::Pool;
pub(crate) use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::{LedgerError, OpenError};
use crate::model::Hint;
use crate::open::{Opening, Pooler, Server};
use cloakroom_domain::operation::Lane;

statements! {
    const NOTIFY: &str = r"SELECT pg_notify($1, $2)";
}

/// The most transactions that write at once: one for each class of writes, and a second one for
/// acceptances and settlements, so that one that is kept waiting keeps no other one waiting.
const COMMITTERS: u32 = 8;
/// Connections that are left for who reads.
const READERS: u32 = 2;

/// How many of so many connections are the committers'.
fn committers(pool: u32) -> u32 {
    pool.saturating_sub(READERS).clamp(1, COMMITTERS)
}

/// A ledger in a PostgreSQL database.
pub(crate) struct Postgres {
    pub(crate) server: Server,
    pub(crate) pool: Arc<Pool>,
    /// Connections that only committers use.
    pub(crate) writers: Arc<Pool>,
    pub(crate) book: Arc<Book>,
    /// Starts on the file that this ledger was copied from, which left something running.
    pub(crate) dead: Vec<i64>,
    /// None where only a pooler can be reached, which keeps no session.
    pub(crate) ears: Option<Ears>,
}

/// Opens the database, brings its schema up to date and registers this start.
pub(crate) async fn open(
    opening: &Opening,
    server: &Server,
) -> Result<(Postgres, Identity), OpenError> {
    let open::Opened { pool, writers, book, identity, dead } = open::open(opening, server).await?;
    let listens_at = match server.pooler {
        Pooler::None => Some(server.direct_url.as_ref().unwrap_or(&server.url)),
        Pooler::Transaction => server.direct_url.as_ref(),
    };
    let ears = listens_at.map(open::options).transpose()?.map(|options| {
        Ears::new(options.application_name(&format!("cloakroom hints {}", book.incarnation)))
    });
    let (server, book) = (server.clone(), Arc::new(book));
    Ok((Postgres { server, pool, writers, book, dead, ears }, identity))
}

impl Postgres {
    /// How many transactions may write at once.
    pub(crate) fn committers(&self) -> usize {
        committers(self.server.pool) as usize
    }

    /// Says that it could not be read.
    pub(crate) fn unreadable(&self, error: &LedgerError) -> OpenError {
        OpenError::Unreadable { path: self.server.url.to_string(), reason: error.to_string() }
    }

    /// A writing transaction, which begins with its first statement.
    pub(crate) fn begin(&self) -> PgTransaction {
        PgTransaction::new(Arc::clone(&self.writers), Arc::clone(&self.book))
    }

    /// Every lane, also those that others have made since it was opened.
    pub(crate) async fn learn_lanes(&self) -> Result<Vec<Lane>, LedgerError> {
        let rows = self.pool.read(catalog::LANES, Values::default().finish()?).await?;
        self.book.learn(&rows)?;
        Ok(self.book.all().into_iter().map(|(_, lane)| lane).collect())
    }

    /// Hurries the other nodes.
    pub(crate) async fn tell(&self, hint: &Hint) -> Result<(), LedgerError> {
        let told = notifications::written(hint, &self.book);
        let values = Values::default().with(notifications::CHANNEL).with(told).finish()?;
        self.pool.read(NOTIFY, values).await.map(drop)
    }

    /// The next hint of another node; none ever where only a pooler can be reached.
    pub(crate) async fn hear(&self) -> Hint {
        match &self.ears {
            Some(ears) => ears.hear(&self.book).await,
            None => std::future::pending().await,
        }
    }

    /// Lets go of the database.
    pub(crate) async fn close(&self) {
        self.writers.close().await;
        self.pool.close().await;
    }
}
