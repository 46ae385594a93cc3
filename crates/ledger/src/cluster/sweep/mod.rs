//! The sweep: what nodes left that are gone, and chunks of bodies that no row refers to.

pub(crate) mod postgres;

use async_trait::async_trait;

use crate::commit::transaction::Transaction;
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::reconcile::{Sweep, Swept};

/// Looks through one batch, and repairs it if told to.
pub(crate) struct SweepOnce {
    /// Where, and whether to repair.
    pub(crate) sweep: Sweep,
}

#[async_trait]
impl Verb for SweepOnce {
    type Output = Swept;

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
            Transaction::Sqlite(writing) => {
                crate::operations::reconcile::sqlite::sweep(writing, &self.sweep)
            }
            Transaction::Postgres(writing) => postgres::sweep(writing, &self.sweep).await,
        }
    }
}
