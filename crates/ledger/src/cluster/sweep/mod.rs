//! The sweep: what nodes left that are gone, and chunks of bodies that no row refers to.

pub(crate) mod postgres;

use async_trait::async_trait;

use crate::cache::counters::{Counter, Elsewhere, Glimpse, Place};
use crate::commit::transaction::Transaction;
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::operations::reconcile::findings::{Sweep, Swept};
use crate::store::Store;
use cloakroom_domain::operation::Lane;

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

/// What the others have counted in a part of a lane; none where no other node counts.
pub(crate) async fn counted_elsewhere(
    store: &Store,
    counter: &Counter,
) -> Result<Option<Elsewhere>, LedgerError> {
    match store {
        Store::Sqlite(_) => Ok(None),
        Store::Postgres(reader) => postgres::counted_elsewhere(reader, counter).await,
    }
}

/// How many operations lie in these lanes, counted up to so many, where other processes write too.
pub(crate) async fn count_up_to(
    store: &Store,
    lanes: &[Lane],
    most: u64,
) -> Result<u64, LedgerError> {
    match store {
        Store::Sqlite(_) => Ok(0),
        Store::Postgres(reader) => postgres::count_up_to(reader, lanes, most).await,
    }
}

/// Octets that are stored for operations of these lanes that have not ended, where other processes
/// write too.
pub(crate) async fn stored_in(store: &Store, lanes: &[Lane]) -> Result<u64, LedgerError> {
    match store {
        Store::Sqlite(_) => Ok(0),
        Store::Postgres(reader) => postgres::stored_in(reader, lanes).await,
    }
}

/// What lies in a part of a lane and what others have told of it, at one moment: rows are
/// counted up to `most`, and there is nothing to say of one with more.
pub(crate) async fn glimpse(
    store: &Store,
    counter: &Counter,
    most: u64,
) -> Result<Option<Glimpse>, LedgerError> {
    match store {
        Store::Sqlite(_) => Ok(None),
        Store::Postgres(reader) => postgres::glimpse(reader, counter, most).await,
    }
}

/// Counts the next operations of a part of a lane, a batch of them, and says where to go on.
pub(crate) async fn count_some(
    store: &Store,
    counter: &Counter,
    behind: Place,
) -> Result<(i64, Option<Place>), LedgerError> {
    match store {
        Store::Sqlite(_) => Ok((0, None)),
        Store::Postgres(reader) => postgres::count_some(reader, counter, behind).await,
    }
}
