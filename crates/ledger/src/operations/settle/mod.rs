//! Settlement: how the ends of attempts are committed with all their effects.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use crate::commit::effects::Effects;
use crate::commit::transaction::Transaction;
use crate::error::{LedgerError, StaleLease};
use crate::verbs::{SettledAs, Settlement};

/// Commits the ends of attempts with all their effects: one fate for each, in their order.
pub(crate) async fn settle(
    transaction: &mut Transaction,
    batch: &[Settlement],
    effects: &mut Effects,
) -> Result<Vec<Result<SettledAs, StaleLease>>, LedgerError> {
    match transaction {
        Transaction::Sqlite(writing) => sqlite::settle(writing, batch, effects),
        Transaction::Postgres(writing) => postgres::settle(writing, batch, effects).await,
    }
}
