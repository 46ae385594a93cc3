//! Limits that nodes share: how they are divided.

pub(crate) mod postgres;
pub(crate) mod shares;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::Timestamp;

use crate::cluster::limits::shares::{Asking, Divided, LimitName};
use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::state::Shared;
use crate::store::{Batch, Store};
use crate::webhooks::sql::{Params, SqlReader};

/// Divides limits between this node and those that are there beside it.
pub(crate) struct Divide {
    /// What this node asks for.
    pub(crate) asking: Asking,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Divide {
    type Output = Vec<Divided>;

    fn class(&self) -> Class {
        Class::Liveness
    }

    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::First
    }

    fn announce(&self, divided: &Self::Output, shared: &Shared) {
        if divided.iter().any(|divided| divided.share.stirs) {
            shared.hints.stirred();
        }
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, divide(&self.asking, self.now))
    }
}

/// When the buckets of rates were last empty.
pub(crate) async fn emptied(reader: &impl SqlReader) -> Batch<(LimitName, Timestamp)> {
    let rows = reader.ask(shares::EMPTIED.into(), Params::none()).await?;
    rows.iter().map(shares::emptied).collect()
}

/// Attempts that run on other nodes, by limit, where other processes write too.
pub(crate) async fn used_elsewhere(store: &Store) -> Batch<(LimitName, u64)> {
    match store {
        Store::Sqlite(_) => Ok(Vec::new()),
        Store::Postgres(reader) => postgres::used(reader).await,
    }
}
