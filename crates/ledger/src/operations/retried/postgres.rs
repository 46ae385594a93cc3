//! The latest repeat by hand of an operation.

use std::collections::HashMap;

use crate::db::postgres::arrays::Values;
use crate::db::postgres::transaction::PgTransaction;
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::model::Acceptance;
use crate::operations::retried::{FORMER, STANDING, origin};
use crate::rows::id;
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::ManualRetry;

statements! {
    /// Differs from SQLite because another node may repeat the same operation at this moment: who
    /// comes second waits here for the first, and sees its repeat. Sorted, so that no two batches
    /// wait for each other.
    const LOCK: &str = r"SELECT id FROM operations WHERE id = ANY ($1::bytea[]) ORDER BY seq FOR UPDATE";
}

/// What stands in the way of the repeats of a batch, by the first operation of their chain.
#[derive(Default)]
pub(crate) struct Retried {
    origins: HashMap<OperationId, OperationId>,
    standing: HashMap<OperationId, OperationId>,
}

impl Retried {
    /// Locks the chains that a batch goes on with, and looks at them.
    pub(crate) async fn of(
        writing: &mut PgTransaction,
        batch: &[Acceptance],
    ) -> Result<Self, LedgerError> {
        let mut retried = Self::default();
        let retries = batch.iter().filter_map(|acceptance| acceptance.operation.retry_of);
        let retries: Vec<_> = retries.map(|retry| retry.of).collect();
        let mut chains = Vec::new();
        for of in &retries {
            let rows = writing.rows(FORMER, named(*of)).await?;
            let former = rows.iter().map(|row| id(row, "id")).collect::<Result<Vec<_>, _>>()?;
            retried.origins.insert(*of, origin(&former, *of));
            chains.extend(former.iter().map(|id| id.as_bytes().to_vec()));
        }
        if !chains.is_empty() {
            writing.rows(LOCK, Values::default().with(chains)).await?;
        }
        for of in &retries {
            let rows = writing.rows(STANDING, named(*of)).await?;
            if let (Some(row), Some(origin)) = (rows.first(), retried.origins.get(of)) {
                retried.standing.insert(*origin, id(row, "id")?);
            }
        }
        Ok(retried)
    }

    /// The earlier repeat that stands in the way of `new`, if one does; otherwise `new` is one.
    pub(crate) fn refuse(&mut self, retry: ManualRetry, new: OperationId) -> Option<OperationId> {
        let origin = self.origins.get(&retry.of).copied().unwrap_or(retry.of);
        if let Some(standing) = self.standing.get(&origin).filter(|_| !retry.again) {
            return Some(*standing);
        }
        self.standing.insert(origin, new);
        None
    }
}

fn named(of: OperationId) -> Values {
    Values::default().with(of.as_bytes().to_vec())
}
