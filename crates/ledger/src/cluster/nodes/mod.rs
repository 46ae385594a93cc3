//! Nodes: their beats, and their leave.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::Timestamp;

use crate::cluster::fleet::{Beaten, Counted, NodeRow, Vitals};
use crate::cluster::limits::shares::Leaving;
use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::rows::{NODES, node};
use crate::state::Shared;
use crate::store::{Batch, Store};
use crate::webhooks::sql::{Params, SqlReader};

/// Writes a beat of this node down, and what it has counted.
pub(crate) struct Beat {
    /// What the node tells of itself.
    pub(crate) vitals: Vitals,
    /// What it has counted and not told yet.
    pub(crate) counted: Vec<Counted>,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Beat {
    type Output = Beaten;

    fn class(&self) -> Class {
        Class::Liveness
    }

    fn grouping(&self, is_shared: bool) -> Grouping {
        // A statement that fails takes its whole transaction with it.
        if is_shared { Grouping::First } else { Grouping::Together }
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            Transaction::Sqlite(writing) => sqlite::beat(writing, &self.vitals, self.now),
            Transaction::Postgres(writing) => {
                postgres::beat(writing, &self.vitals, &self.counted, self.now).await
            }
        }
    }
}

/// Writes down that this node has ended: others need not wait for it.
pub(crate) struct Leave {
    /// What it leaves.
    pub(crate) leaving: Leaving,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Leave {
    type Output = ();

    fn class(&self) -> Class {
        Class::Liveness
    }

    fn grouping(&self, is_shared: bool) -> Grouping {
        // A statement that fails takes its whole transaction with it.
        if is_shared { Grouping::First } else { Grouping::Together }
    }

    fn announce(&self, _output: &Self::Output, shared: &Shared) {
        // Others may have what it held.
        shared.hints.stirred();
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        _around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, leave(&self.leaving, self.now))
    }
}

/// Every node that is remembered, the latest start first.
pub(crate) async fn nodes(reader: &impl SqlReader) -> Batch<NodeRow> {
    let rows = reader.ask(NODES.into(), Params::none()).await?;
    rows.iter().map(node).collect()
}

/// The database's time, where it has one of its own.
pub(crate) async fn time(store: &Store) -> Result<Option<Timestamp>, LedgerError> {
    match store {
        Store::Sqlite(_) => Ok(None),
        Store::Postgres(reader) => postgres::time(reader).await.map(Some),
    }
}
