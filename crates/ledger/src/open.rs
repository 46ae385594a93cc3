//! The opening of a ledger, and the tasks that then run for it.
//!
//! Owns the choice of the engine and the order in which a ledger begins and ends. It is
//! the only place that knows which engines there are.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Identity;
use crate::commit::committer;
use crate::commit::write_queue::WriteReceiver;
use crate::db::{postgres, sqlite};
use crate::error::OpenError;
use crate::facade::read_batcher::{self, ReadBatcher};
use crate::model::Retention;
use crate::state::Shared;
use crate::store::Store;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::sealing::Keyring;
use cloakroom_domain::{DatabaseUrl, Timestamp};
use cloakroom_runtime::lifecycle::Tasks;

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Where it is.
    pub location: Location,
    /// Whether pending migrations are run; otherwise they are an error.
    pub migrate: bool,
    /// How long things last.
    pub retention: Retention,
    /// Every lane that operations may be accepted into.
    pub lanes: Vec<Lane>,
    /// What values are sealed with and opened.
    pub keyring: Keyring,
}

/// Where a ledger is.
#[derive(Clone, Debug)]
pub enum Location {
    /// In a SQLite file, for one process.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Connections that read; at least 1.
        readers: u32,
    },
    /// In a PostgreSQL database, for as many processes as like.
    Postgres(Server),
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path, .. } => path.display().fmt(formatter),
            Self::Postgres(server) => server.url.fmt(formatter),
        }
    }
}

/// A PostgreSQL server and how it is reached.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where statements go.
    pub url: DatabaseUrl,
    /// Where migrations and listening go, if that is somewhere else: past a pooler.
    pub direct_url: Option<DatabaseUrl>,
    /// What lies between here and the server.
    pub pooler: Pooler,
    /// The most connections at once, beside the one that listens; at least 2.
    pub pool: u32,
    /// How long a server that is away is waited for at the start.
    pub patience: Duration,
}

/// What lies between a gateway and its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing: a connection is a session.
    #[default]
    None,
    /// One that lends a session for each transaction, as PgBouncer does.
    Transaction,
}

/// Opens the store that the location names.
pub(crate) async fn store(
    opening: Opening,
    now: Timestamp,
) -> Result<(Store, Identity), OpenError> {
    match &opening.location {
        Location::Sqlite { path, readers } => {
            let (store, identity) = sqlite::open(
                sqlite::Opening {
                    path: path.clone(),
                    readers: *readers,
                    migrate: opening.migrate,
                    retention: opening.retention,
                    lanes: opening.lanes,
                    keyring: opening.keyring,
                },
                now,
            )
            .await?;
            Ok((Store::Sqlite(Box::new(store)), identity))
        }
        Location::Postgres(server) => {
            let (store, identity) = postgres::open(&opening, server).await?;
            Ok((Store::Postgres(Box::new(store)), identity))
        }
    }
}

/// What was erased is gone from the disk after about so long.
const LOG_KEPT: Duration = Duration::from_secs(10);

/// Cuts the store's log again and again.
async fn cut_logs(shared: &Shared) {
    loop {
        shared.clock.sleep(LOG_KEPT).await;
        if let Err(error) = shared.store.cut_log().await {
            shared.note(&error);
        }
    }
}

/// Starts what reads, commits and looks. All of it ends, and the store is closed, when the
/// last handle of the ledger is gone.
pub(crate) fn start(
    shared: &Arc<Shared>,
    turns: Vec<Arc<WriteReceiver>>,
    tasks: &Tasks,
) -> ReadBatcher {
    let (questions, asked) = read_batcher::queue();
    // Its last sender is dropped when the last writer, reader and look has ended.
    let (busy, mut idle) = mpsc::channel::<()>(1);
    let closing = CancellationToken::new();
    let log_end = closing.clone();
    let reading = (Arc::clone(shared), busy.clone());
    tasks.spawn_apart(async move {
        read_batcher::run(reading.0, asked).await;
        drop(reading.1);
    });
    let (told, to_tell) = committer::told();
    tasks.spawn(committer::tell(Arc::clone(shared), to_tell));
    let committers: Vec<_> = turns
        .into_iter()
        .map(|turns| {
            let guard = closing.clone().drop_guard();
            let (writer, busy) = (Arc::clone(shared), busy.clone());
            let told = told.clone();
            async move {
                committer::run(writer, turns, told).await;
                drop((guard, busy));
            }
        })
        .collect();
    drop(told);
    if shared.store.is_shared() {
        // Each waits for a server most of the time.
        tasks.spawn_with_sockets(committers);
    } else {
        committers.into_iter().for_each(|committer| tasks.spawn_apart(committer));
    }
    if shared.store.is_shared() {
        let (looker, busy) = (Arc::clone(shared), busy.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = crate::facade::poller::run(&looker) => {}
            }
            drop(busy);
        });
    }
    if !shared.store.is_shared() {
        let (cutter, busy) = (Arc::clone(shared), busy.clone());
        // What it does keeps its thread.
        tasks.spawn_apart(async move {
            tokio::select! {
                () = log_end.cancelled() => {}
                () = cut_logs(&cutter) => {}
            }
            drop(busy);
        });
    }
    drop(busy);
    let closed = Arc::clone(shared);
    tasks.spawn(async move {
        while idle.recv().await.is_some() {}
        closed.store.close().await;
    });
    questions
}
