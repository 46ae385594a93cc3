//! What can go wrong in the ledger, one variant for each decision that a caller makes.

/// The ledger could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// No room on the disk. Nothing was changed; it works again once there is room.
    #[error("the ledger's disk is full: make room, and the gateway goes on by itself")]
    Full,
    /// The ledger cannot be reached at present. Nothing was changed, or nobody can tell.
    #[error("the ledger does not answer: {0}")]
    Unavailable(String),
    /// The disk refused to make a write durable. The process must end, because what it
    /// believes and what the disk holds may differ.
    #[error("the disk failed to make the ledger durable: {0}")]
    NotDurable(String),
    /// A stored row does not make sense.
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
}

/// The ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another gateway has it.
    #[error(
        "the ledger {path} is in use by another gateway: stop that one, or give this one a ledger \
         of its own with --store"
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
    /// The store's URL is not understood.
    #[error(
        "store.url = \"{0}\" is no SQLite ledger: write sqlite:PATH, as in sqlite:cloakroom.db"
    )]
    BadUrl(String),
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

/// A settling write came from somebody who no longer holds the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is stale: the operation was taken over or has ended")]
pub struct StaleLease;
