//! One writing transaction, on either backend.
//!
//! Owns its begin, the locks that a group takes before its verbs run, and its commit. Dropping it
//! undoes it. Verbs look into it for the backend that they speak to.

use crate::commit::handoff::DeliverySlots;
use crate::db::{postgres, sqlite};
use crate::error::LedgerError;
use crate::model::{Acceptance, Settlement};
use crate::webhooks::MessageRenderer;
use crate::webhooks::publish::{Announcement, announce};

/// One writing transaction.
pub(crate) enum Transaction {
    /// In a SQLite file.
    Sqlite(Box<sqlite::SqliteTransaction>),
    /// In a PostgreSQL database.
    Postgres(Box<postgres::PgTransaction>),
}

/// Runs the same expression on the transaction of either backend.
macro_rules! on_either {
    ($transaction:expr, $writing:ident => $run:expr) => {
        match $transaction {
            $crate::commit::transaction::Transaction::Sqlite($writing) => $run,
            $crate::commit::transaction::Transaction::Postgres($writing) => $run,
        }
    };
}
pub(crate) use on_either;

/// Calls the function of that name in the caller's `sqlite` or `postgres` module, whichever backend
/// the transaction is of. Only PostgreSQL's is awaited: SQLite's keeps the committer's thread.
macro_rules! by_backend {
    ($transaction:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $transaction {
            $crate::commit::transaction::Transaction::Sqlite(writing) => {
                sqlite::$function(writing, $($argument),*)
            }
            $crate::commit::transaction::Transaction::Postgres(writing) => {
                postgres::$function(writing, $($argument),*).await
            }
        }
    };
}
pub(crate) use by_backend;

impl Transaction {
    /// Takes the locks that a group needs, in one order, before its verbs run. `alone` says that
    /// there will be one verb and no other: these settlements, these acceptances, or one claim.
    pub(crate) async fn prepare(
        &mut self,
        settlements: &[Settlement],
        acceptances: &[Acceptance],
        alone: bool,
    ) -> Result<(), LedgerError> {
        match self {
            // One process writes, in one transaction at a time.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(writing) => {
                crate::operations::locks::prepare(writing, settlements, acceptances, alone).await
            }
        }
    }

    /// Gives the events of this transaction to their receivers.
    pub(crate) async fn announce(
        &mut self,
        renderer: &dyn MessageRenderer,
        delivery_slots: Option<&dyn DeliverySlots>,
    ) -> Result<Announcement, LedgerError> {
        on_either!(self, writing => announce(&mut **writing, renderer, delivery_slots).await)
    }

    /// Makes all of it durable. An error leaves open whether it is.
    pub(crate) async fn commit(self) -> Result<(), LedgerError> {
        match self {
            Self::Sqlite(writing) => sqlite::commit(*writing),
            Self::Postgres(writing) => writing.commit().await,
        }
    }
}
