//! The recorded answer of an operation.

use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::KeptAnswer;
use crate::rows;
use crate::webhooks::sql::{Params, SqlReader, ask_one};
use cloakroom_domain::OperationId;

statements! {
    const ANSWER: &str = r"
        SELECT q.seq, x.response_status, x.response_framing, x.created_location, q.fields,
            q.body, q.body_key, q.body_length,
            (SELECT count(*) FROM pieces WHERE body = q.body_key) AS pieces
        FROM operations o
        JOIN outcomes x ON x.seq = o.seq
        JOIN results q ON q.seq = o.seq
        WHERE o.id = $1";
}

/// The recorded answer, as long as it is kept.
pub(crate) async fn answer(
    reader: &impl SqlReader,
    id: OperationId,
) -> Result<Option<KeptAnswer>, LedgerError> {
    let row = ask_one(reader, ANSWER, Params::id(id)).await?;
    row.as_ref().map(|row| rows::answer(row, reader.sealer())).transpose()
}
