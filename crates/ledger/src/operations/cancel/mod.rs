//! The cancellation of an operation.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::{OperationId, Timestamp};

use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Surroundings, Verb};
use crate::error::LedgerError;
use crate::model::{Canceled, Freeing};
use crate::state::Shared;
use crate::store::{Batch, Store};

/// Calls an operation off.
pub(crate) struct Cancel {
    /// The operation.
    pub(crate) id: OperationId,
    /// What becomes of its document.
    pub(crate) freeing: Freeing,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Cancel {
    type Output = Canceled;

    fn announce(&self, canceled: &Self::Output, shared: &Shared) {
        shared.canceled(self.id, *canceled);
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, cancel(self.id, self.freeing, self.now, around.effects))
    }
}

/// What this node runs and others have called off, where other processes write too.
pub(crate) async fn called_off(store: &Store) -> Batch<OperationId> {
    match store {
        Store::Sqlite(_) => Ok(Vec::new()),
        Store::Postgres(reader) => postgres::called_off(reader).await,
    }
}
