//! Errors of the ledger, one variant for each decision that a caller makes.

use cloakroom_domain::sealing::SealingError;

/// The ledger could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// No room on the disk. Nothing was changed; it works again once there is room.
    #[error("the ledger's disk is full: make room, and the gateway goes on by itself")]
    Full,
    /// The ledger cannot be reached at present. Nothing was changed, or it is not known whether anything was.
    #[error("the ledger does not answer: {0}")]
    Unavailable(String),
    /// It stood in the way of another write at the same moment. Nothing was changed; it
    /// works when tried again.
    #[error("the ledger is contended: {0}")]
    Contended(String),
    /// The disk refused to make a write durable. The process must end, because what it
    /// believes and what the disk holds may differ.
    #[error("the disk failed to make the ledger durable: {0}")]
    NotDurable(String),
    /// A stored value was sealed with a key that this gateway does not have.
    #[error("{0}")]
    Sealed(String),
    /// A later release wrote a row in a form that this one does not know.
    #[error("a later release wrote what cannot be read here: {0}")]
    Later(String),
    /// A stored row does not make sense.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
}

impl LedgerError {
    /// Whether it may be the fault of one row alone; a full or absent database is everybody's.
    pub(super) const fn is_about_a_row(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Sealed(_) | Self::Later(_))
    }
}

impl From<SealingError> for LedgerError {
    fn from(error: SealingError) -> Self {
        match error {
            SealingError::UnknownKey(_) => Self::Sealed(error.to_string()),
            SealingError::Damaged => Self::Damaged(error.to_string()),
        }
    }
}

/// The ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another gateway has it.
    #[error(
        "the ledger {path} is in use by another gateway, and a file has one: stop that one, or give \
         this one a ledger of its own with --store; a fleet that shares a ledger needs PostgreSQL \
         (--store postgres://…)"
    )]
    InUse {
        /// The ledger's file.
        path: String,
    },
    /// Migrations are pending and were not to be run.
    #[error(
        "the ledger {path} needs {pending} migration(s): run `cloakroom migrate` with the same \
         --config or --store, or start without --no-migrate"
    )]
    MigrationsPending {
        /// The ledger's file.
        path: String,
        /// How many.
        pending: usize,
    },
    /// A build that was never released made its schema, which no migration leads on from.
    #[error(
        "a build of cloakroom that was never released made the ledger {path}, and no migration \
         leads on from its schema: give this gateway a new file or an empty database (store.url, or \
         --store), and finish what is in the old one with the build that made it"
    )]
    Unreleased {
        /// The ledger's file or database.
        path: String,
    },
    /// Values in it are sealed with keys that are not configured.
    #[error(
        "the ledger {path} holds values that are sealed with a key that is not configured ({keys}): put that key \
         into secrets.previous (or secrets.key); it can be left out once `cloakroom secrets reseal` says so"
    )]
    MissingKeys {
        /// The ledger's file, or its address.
        path: String,
        /// The ids of the keys.
        keys: String,
    },
    /// The database could not be reached for too long.
    #[error(
        "the database {url} has been away for {waited} s ({reason}): start it, or correct store.url \
         (--store)"
    )]
    Away {
        /// Where it should be, without its password.
        url: String,
        /// How long it was waited for, in seconds.
        waited: u64,
        /// The last thing that it said.
        reason: String,
    },
    /// The file or the database belongs to another program.
    #[error(
        "{path} belongs to another program (it has {sign}, and no table of a ledger's): \
         nothing in it was changed; give the ledger a file or a database of its own with store.url \
         (--store)"
    )]
    Foreign {
        /// The file, or the database without its password.
        path: String,
        /// What tells so, as `a table customers`.
        sign: String,
    },
    /// A pooler refused what a session needs.
    #[error(
        "what answers at {url} is a pooler like PgBouncer ({reason}): set store.pooler = \
         \"transaction\", and store.direct_url to the way past it"
    )]
    PoolerUnset {
        /// Where it is, without its password.
        url: String,
        /// What it said.
        reason: String,
    },
    /// The server is too old.
    #[error("PostgreSQL {0} is too old: the ledger needs 15 or later")]
    OldPostgres(u32),
    /// The server has fewer connections than this node alone may want.
    #[error(
        "this node may want {each} connections (store.pool and one more), but the database has \
         {room}: lower store.pool, or raise the database's max_connections"
    )]
    NoRoom {
        /// How many this node may want.
        each: u64,
        /// How many there are.
        room: u64,
    },
    /// The SQLite library has the WAL-reset bug.
    #[error("SQLite {0} can corrupt its write-ahead log: build with 3.51.3 or later")]
    UnsafeSqlite(String),
    /// `quick_check` found damage.
    #[error("the ledger {path} is damaged: {found}; restore it from a copy")]
    Damaged {
        /// The ledger's file.
        path: String,
        /// The first thing found.
        found: String,
    },
    /// The file could not be opened or read.
    #[error("the ledger {path} could not be opened: {reason}")]
    Unreadable {
        /// The ledger's file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// A settling write came from a caller that no longer holds the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is stale: the operation was taken over or has ended")]
pub struct StaleLease;
