//! Progress reports of upstreams.

use async_trait::async_trait;

use crate::commit::transaction::Transaction;
use crate::commit::verb::{Surroundings, Verb};
use crate::error::LedgerError;
use crate::model::{ProgressReport, Progressed};
use crate::state::Shared;

/// Writes a progress report down.
pub(crate) struct Report {
    /// The report.
    pub(crate) report: ProgressReport,
}

#[async_trait]
impl Verb for Report {
    type Output = Progressed;

    fn announce(&self, _output: &Self::Output, shared: &Shared) {
        shared.changed([self.report.id]);
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            Transaction::Sqlite(writing) => {
                crate::operations::cancel::sqlite::progress(writing, &self.report)
            }
            Transaction::Postgres(writing) => {
                crate::operations::cancel::postgres::progress(writing, &self.report).await
            }
        }
    }
}
