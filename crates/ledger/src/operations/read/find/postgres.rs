//! Operations by their ids on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use crate::db::postgres::Postgres;
use crate::db::postgres::arrays::Values;
use crate::db::postgres::lookups::places;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::operations::read::find::OperationReader;
use crate::rows::{carried, id, number, operations, origins};
use crate::store::Batch;
use cloakroom_domain::OperationId;

statements! {
    const FIND: &str = concat!(operations!(), places!(), " WHERE o.id = ANY ($1)");

    /// The number of the latest event of each operation, which rises with whatever happens to it.
    /// Differs from SQLite because only here others write.
    const SEQUENCES: &str = concat!(
        r"
        SELECT o.id, coalesce(x.sequence, u.sequence, r.sequence, w.sequence) AS sequence
        FROM operations o
        LEFT JOIN outcomes x ON x.seq = o.seq",
        places!(),
        " WHERE o.id = ANY ($1)"
    );
}

fn octets(ids: &[OperationId]) -> Vec<Vec<u8>> {
    ids.iter().map(|id| id.as_bytes().to_vec()).collect()
}

#[async_trait]
impl OperationReader for Postgres {
    async fn rows_of(&self, ids: &[OperationId]) -> Result<Vec<PgRow>, LedgerError> {
        self.pool.read(FIND, Values::default().with(octets(ids)).finish()?).await
    }
}

/// The number of the latest event of each of these.
pub(crate) async fn sequences(reader: &Postgres, ids: &[OperationId]) -> Batch<(OperationId, u32)> {
    let values = Values::default().with(octets(ids)).finish()?;
    let rows = reader.pool.read(SEQUENCES, values).await?;
    rows.iter().map(|row| Ok((id(row, "id")?, number(row, "sequence")?))).collect()
}
