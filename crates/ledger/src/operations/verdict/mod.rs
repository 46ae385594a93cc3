//! The verdict of a person on an unknown outcome.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::OperationId;
use cloakroom_domain::operation::Verdict;

use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Surroundings, Verb};
use crate::error::LedgerError;
use crate::model::Judged;
use crate::state::Shared;

/// Writes a verdict down.
pub(crate) struct RecordVerdict {
    /// The operation.
    pub(crate) id: OperationId,
    /// The verdict.
    pub(crate) verdict: Verdict,
}

#[async_trait]
impl Verb for RecordVerdict {
    type Output = Judged;

    fn announce(&self, _output: &Self::Output, shared: &Shared) {
        shared.changed([self.id]);
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, judge(self.id, &self.verdict))
    }
}
