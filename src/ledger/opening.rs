//! How a ledger is opened.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::verbs::Retention;
use crate::domain::DatabaseUrl;
use crate::domain::operation::Lane;

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
