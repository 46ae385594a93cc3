//! The tree below an operation.

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Operation;
use crate::operations::read::find::OperationReader;
use crate::page::Listed;
use crate::rows::{id, maybe_id, operation};
use crate::webhooks::sql::{Params, Sql};
use cloakroom_domain::OperationId;

statements! {
    /// Those below an operation, level by level, and no more than are shown. SQLite notes all that a
    /// step brings, so there the limit stands inside, for the whole and for the children of each.
    /// PostgreSQL goes on with the recursion only as far as rows are asked for.
    pub(crate) const DESCENDANTS: Sql = Sql {
        sqlite: r"
            WITH RECURSIVE below (id) AS (
                SELECT id
                FROM (SELECT id FROM operations WHERE parent = $1 ORDER BY id LIMIT $2)
                UNION
                SELECT o.id
                FROM below b
                JOIN operations o ON o.id IN (
                    SELECT c.id FROM operations c WHERE c.parent = b.id ORDER BY c.id LIMIT $2
                )
                LIMIT $2
            )
            SELECT id
            FROM below
            ORDER BY id",
        postgres: r"
            WITH RECURSIVE below (id) AS (
                SELECT id
                FROM operations
                WHERE parent = $1
                UNION
                SELECT o.id
                FROM below b
                JOIN operations o ON o.parent = b.id
            )
            SELECT shown.id
            FROM (SELECT id FROM below LIMIT $2) AS shown
            ORDER BY shown.id",
    };
}

/// The operations that one gave rise to, and that those gave rise to; at most `limit`.
pub(crate) async fn descendants(
    reader: &impl OperationReader,
    of: OperationId,
    limit: u32,
) -> Result<Listed<Operation, OperationId>, LedgerError> {
    let rows = reader.ask(DESCENDANTS, Params::id(of).and(i64::from(limit))).await?;
    let ids = rows.iter().map(|row| id(row, "id")).collect::<Result<Vec<_>, _>>()?;
    let mut rows = reader.rows_of(&ids).await?;
    rows.sort_by_cached_key(|row| maybe_id(row, "id").ok().flatten());
    let read = |row: &_| operation(row, reader.sealer());
    Listed::of(&rows, limit as usize, |row| id(row, "id"), read)
}
