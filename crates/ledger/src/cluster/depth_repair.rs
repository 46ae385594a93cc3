//! The repair of a lane's depth that nodes have counted wrong.

use async_trait::async_trait;

use crate::cache::counters::Recount;
use crate::commit::transaction::Transaction;
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;

/// Corrects what is counted in a lane, unless another node has done so since it was seen.
pub(crate) struct RepairDepth {
    /// What is wrong, and by how much.
    pub(crate) recount: Recount,
}

#[async_trait]
impl Verb for RepairDepth {
    type Output = ();

    fn class(&self) -> Class {
        Class::Maintenance
    }

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::Last
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            // One process counts by itself there.
            Transaction::Sqlite(_) => Ok(()),
            Transaction::Postgres(writing) => {
                crate::cluster::sweep::postgres::recount(writing, &self.recount).await
            }
        }
    }
}
