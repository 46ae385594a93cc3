//! Reconciliation: looking for rows that do not add up, and repairing them.

pub(crate) mod findings;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::operations::reconcile::findings::{Step, Stepped};
use crate::state::Shared;

/// Looks through one batch, and repairs it if told to.
pub(crate) struct Reconcile {
    /// Where, and whether to repair.
    pub(crate) step: Step,
}

#[async_trait]
impl Verb for Reconcile {
    type Output = Stepped;

    fn class(&self) -> Class {
        Class::Maintenance
    }

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::Last
    }

    fn announce(&self, _output: &Self::Output, shared: &Shared) {
        shared.snapshots.forget_all();
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, reconcile(self.step, around.effects))
    }
}
