//! Acceptance: how new operations are written down.

pub(crate) mod insert;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use crate::commit::transaction::Transaction;
use crate::error::LedgerError;
use crate::model::{AcceptVerdict, Acceptance};

/// Writes new operations down: one verdict for each, in their order.
pub(crate) async fn accept(
    transaction: &mut Transaction,
    batch: &[Acceptance],
) -> Result<Vec<AcceptVerdict>, LedgerError> {
    match transaction {
        Transaction::Sqlite(writing) => sqlite::accept(writing, batch).await,
        Transaction::Postgres(writing) => postgres::accept(writing, batch).await,
    }
}
