//! The deletion of expired data.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::pruning::Portion;
use cloakroom_domain::{OperationId, Timestamp};

use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::model::Pruned;
use crate::state::Shared;

/// Frees what has expired, a portion of it.
pub(crate) struct Prune {
    /// How much at most.
    pub(crate) portion: Portion,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Prune {
    type Output = Pruned;

    fn class(&self) -> Class {
        Class::Maintenance
    }

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::Last
    }

    fn announce(&self, pruned: &Self::Output, shared: &Shared) {
        if *pruned != Pruned::default() {
            shared.snapshots.forget_all();
        }
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            Transaction::Sqlite(writing) => {
                sqlite::prune_or_make_room(writing, self.portion, self.now)
            }
            Transaction::Postgres(writing) => {
                postgres::prune(writing, self.portion, self.now).await
            }
        }
    }
}

/// Frees request and result of an operation that has ended; false if it has not.
pub(crate) struct Free {
    /// The operation.
    pub(crate) id: OperationId,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Free {
    type Output = bool;

    fn announce(&self, _output: &Self::Output, shared: &Shared) {
        shared.changed([self.id]);
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, free(self.id, self.now))
    }
}
