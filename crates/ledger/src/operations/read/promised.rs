//! The promise that an operation was accepted with.

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Promised;
use crate::rows::{self, promises};
use crate::webhooks::sql::{Params, SqlReader, ask_one};
use cloakroom_domain::OperationId;

statements! {
    const PROMISED: &str = concat!(
        r"SELECT ",
        promises!(),
        r", q.fields, NULL AS credentials, q.body, q.body_key, q.body_length
        FROM operations o
        LEFT JOIN requests q ON q.seq = o.seq
        WHERE o.id = $1"
    );
}

/// What an operation was accepted as, as long as that has not been freed.
pub(crate) async fn promised(
    reader: &impl SqlReader,
    id: OperationId,
) -> Result<Option<Promised>, LedgerError> {
    let row = ask_one(reader, PROMISED, Params::id(id)).await?;
    row.as_ref().map_or(Ok(None), |row| rows::promised(row, reader.sealer()))
}
