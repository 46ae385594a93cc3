//! The latest repeat by hand of an operation.

use std::collections::HashMap;

use crate::db::sqlite::SqliteTransaction;
use crate::db::sqlite::rows::id;
use crate::error::LedgerError;
use crate::operations::retried::{FORMER, STANDING, origin};
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::ManualRetry;

/// What the repeats of one batch have found and made, by the first operation of their chain.
#[derive(Default)]
pub(crate) struct Retried(HashMap<OperationId, OperationId>);

impl Retried {
    /// The earlier repeat that stands in the way of `new`, if one does; otherwise `new` is one.
    pub(crate) fn refuse(
        &mut self,
        writing: &mut SqliteTransaction,
        retry: ManualRetry,
        new: OperationId,
    ) -> Result<Option<OperationId>, LedgerError> {
        let named = [retry.of];
        let rows = writing.writer.all_of_each(FORMER, &named, |id, values| {
            values.put(id.as_bytes());
        })?;
        let former = rows.iter().map(|row| id(row, "id")).collect::<Result<Vec<_>, _>>()?;
        let origin = origin(&former, retry.of);
        let standing = if let Some(standing) = self.0.get(&origin) {
            Some(*standing)
        } else {
            let row = writing.writer.one(STANDING, |values| {
                values.put(retry.of.as_bytes());
            })?;
            row.map(|row| id(&row, "id")).transpose()?
        };
        if let Some(standing) = standing.filter(|_| !retry.again) {
            return Ok(Some(standing));
        }
        self.0.insert(origin, new);
        Ok(None)
    }
}
