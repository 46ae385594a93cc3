//! The verbs of operations, one file each.
//!
//! Owns what each write does to the tables of operations. It must not know how writes are queued or
//! grouped, nor who asks.

mod bodies;
mod cancel;
mod claim;
mod pause;
mod progress;
mod prune;
mod reconcile;
mod serial_keys;
mod verdict;

pub(crate) use bodies::{DiscardBody, WriteChunks};
pub(crate) use cancel::Cancel;
pub(crate) use claim::{Claim, ClaimExpired, ClaimOrphans, ClaimOverdue, ClaimWaiting, Reclaim};
pub(crate) use pause::Pause;
pub(crate) use progress::Report;
pub(crate) use prune::{Free, Prune};
pub(crate) use reconcile::Reconcile;
pub(crate) use serial_keys::{Release, ReleaseDelayed};
pub(crate) use verdict::RecordVerdict;

use crate::commit::effects::Effects;
use crate::commit::transaction::Transaction;
use crate::error::{LedgerError, StaleLease};
use crate::verbs::{AcceptVerdict, Acceptance, SettledAs, Settlement};
use crate::{postgres, sqlite};

/// Writes new operations down: one verdict for each, in their order.
pub(crate) async fn accept(
    transaction: &mut Transaction,
    batch: &[Acceptance],
) -> Result<Vec<AcceptVerdict>, LedgerError> {
    match transaction {
        Transaction::Sqlite(writing) => sqlite::accept::accept(writing, batch).await,
        Transaction::Postgres(writing) => postgres::accept::accept(writing, batch).await,
    }
}

/// Commits the ends of attempts with all their effects: one fate for each, in their order.
pub(crate) async fn settle(
    transaction: &mut Transaction,
    batch: &[Settlement],
    effects: &mut Effects,
) -> Result<Vec<Result<SettledAs, StaleLease>>, LedgerError> {
    match transaction {
        Transaction::Sqlite(writing) => sqlite::settle::settle(writing, batch, effects),
        Transaction::Postgres(writing) => postgres::settle::settle(writing, batch, effects).await,
    }
}
