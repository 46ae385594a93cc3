//! Operations by their ids.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::collections::HashMap;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::model::Operation;
use crate::rows::operation;
use crate::store::{Batch, Store};
use crate::webhooks::sql::SqlReader;
use cloakroom_domain::OperationId;

/// A reader that looks many operations up at once, each backend in its own way.
#[async_trait]
pub(crate) trait OperationReader: SqlReader {
    /// The rows of these operations, in no order; those that do not exist are left out.
    async fn rows_of(&self, ids: &[OperationId]) -> Result<Vec<Self::Row>, LedgerError>;
}

/// The operations with these ids; `None` where there is no such row.
pub(crate) async fn find(
    reader: &impl OperationReader,
    ids: &[OperationId],
) -> Batch<Option<Operation>> {
    let rows = reader.rows_of(ids).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let operation = operation(row, reader.sealer())?;
        found.insert(operation.id, operation);
    }
    // The same id may be asked for twice in one batch.
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

/// The number of the latest event of each of these that exists, where other processes write too.
pub(crate) async fn sequences(store: &Store, ids: &[OperationId]) -> Batch<(OperationId, u32)> {
    match store {
        Store::Sqlite(_) => Ok(Vec::new()),
        Store::Postgres(reader) => postgres::sequences(reader, ids).await,
    }
}
