//! The ledger in a PostgreSQL database, which many gateways write to at once.
//!
//! Owns the connections and the statements. Its invariants: an operation has exactly one
//! row among `ready`, `running`, `waiting` and `outcomes`; nothing is kept in a session,
//! so that a pooler may lie between; every wait has an end. It must not know who asks, or
//! what time it is.

pub(crate) mod batch;
pub(crate) mod belonging;
pub(crate) mod book;
pub(crate) mod given;
pub(crate) mod hints;
pub(crate) mod marks;
pub(crate) mod open;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod property;
#[cfg(test)]
pub(crate) mod texts;
pub(crate) mod trouble;
pub(crate) mod webhooks;
pub(crate) mod writing;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::Identity;
use super::commit::transaction::Transaction;
use super::error::{LedgerError, OpenError};
use super::fleet::NodeRow;
use super::listed::Listed;
use super::opening::{Opening, Pooler, Server};
use super::recount::{Counter, Elsewhere, Glimpse, Place};
use super::store::{Batch, Store};
use super::verbs::{
    Acceptance, Hint, KeptAnswer, KeyInUse, KeyListing, LaneDepth, LanePlace, Listing, Operation,
    Overdue, Page, Promised, SerialName, Settlement,
};
use super::webhooks::ReadsDeliveries;
use crate::operations::capacity::Standing;
pub(crate) use crate::operations::read::postgres::FIRST_COUNT;
use crate::permits::LimitName;
use batch::Values;
pub(crate) use batch::storable;
use book::Book;
use cloakroom_domain::operation::{BodyKey, Event, IdempotencyClaim, Lane};
use cloakroom_domain::{OperationId, Timestamp};
use hints::Ears;
pub use open::postgres_version;
pub(crate) use open::{MOVED, target};
use pool::Pool;
pub(crate) use writing::PgTransaction;

/// The most transactions that write at once: one for each class of writes, and a second one for
/// acceptances and settlements, so that one that is kept waiting keeps no other one waiting.
const COMMITTERS: u32 = 8;
/// Connections that are left for who reads.
const READERS: u32 = 2;

/// How many of so many connections are the committers'.
fn committers(pool: u32) -> u32 {
    pool.saturating_sub(READERS).clamp(1, COMMITTERS)
}

/// A ledger in a PostgreSQL database.
pub(crate) struct Postgres {
    pub(crate) server: Server,
    pub(crate) pool: Arc<Pool>,
    /// Connections that only committers use.
    pub(crate) writers: Arc<Pool>,
    pub(crate) book: Arc<Book>,
    /// Starts on the file that this ledger was copied from, which left something running.
    pub(crate) dead: Vec<i64>,
    /// None where only a pooler can be reached, which keeps no session.
    pub(crate) ears: Option<Ears>,
}

/// Opens the database, brings its schema up to date and registers this start.
pub(crate) async fn open(
    opening: &Opening,
    server: &Server,
) -> Result<(Postgres, Identity), OpenError> {
    let open::Opened { pool, writers, book, identity, dead } = open::open(opening, server).await?;
    let listens_at = match server.pooler {
        Pooler::None => Some(server.direct_url.as_ref().unwrap_or(&server.url)),
        Pooler::Transaction => server.direct_url.as_ref(),
    };
    let ears = listens_at.map(open::options).transpose()?.map(|options| {
        Ears::new(options.application_name(&format!("cloakroom hints {}", book.incarnation)))
    });
    let (server, book) = (server.clone(), Arc::new(book));
    Ok((Postgres { server, pool, writers, book, dead, ears }, identity))
}

#[async_trait]
impl Store for Postgres {
    fn committers(&self) -> usize {
        committers(self.server.pool) as usize
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn incarnation(&self) -> i64 {
        self.book.incarnation
    }

    fn knows_tasks(&self, names: HashSet<Arc<str>>) {
        self.book.tasks.are(names);
    }

    fn dead_at_open(&self) -> &[i64] {
        &self.dead
    }

    async fn time(&self) -> Result<Option<Timestamp>, LedgerError> {
        crate::cluster::nodes::postgres::time(&self.pool).await.map(Some)
    }

    async fn nodes(&self) -> Batch<NodeRow> {
        crate::cluster::nodes::postgres::list(&self.pool).await
    }

    fn unreadable(&self, error: &LedgerError) -> OpenError {
        OpenError::Unreadable { path: self.server.url.to_string(), reason: error.to_string() }
    }

    async fn begin(&self) -> Result<Transaction, LedgerError> {
        let writing = PgTransaction::new(Arc::clone(&self.writers), Arc::clone(&self.book));
        Ok(Transaction::Postgres(Box::new(writing)))
    }

    async fn find(&self, ids: &[OperationId]) -> Batch<Option<Operation>> {
        crate::operations::read::postgres::find(&self.pool, &self.book.sealer, ids).await
    }

    async fn sequences(&self, ids: &[OperationId]) -> Batch<(OperationId, u32)> {
        crate::operations::read::postgres::sequences(&self.pool, ids).await
    }

    async fn called_off(&self) -> Batch<OperationId> {
        crate::operations::read::postgres::called_off(&self.pool, &self.book).await
    }

    async fn used_elsewhere(&self) -> Batch<(LimitName, u64)> {
        crate::cluster::limits::postgres::used(&self.pool, self.book.incarnation).await
    }

    async fn emptied(&self) -> Batch<(LimitName, Timestamp)> {
        crate::cluster::limits::postgres::emptied(&self.pool).await
    }

    async fn learn_lanes(&self) -> Batch<Lane> {
        let rows = self.pool.read(book::LANES, Values::default().finish()?).await?;
        self.book.learn(&rows)?;
        Ok(self.book.all().into_iter().map(|(_, lane)| lane).collect())
    }

    async fn standing(&self, claim: &IdempotencyClaim) -> Result<Option<Standing>, LedgerError> {
        crate::operations::read::postgres::standing(&self.pool, claim).await
    }

    async fn count_up_to(&self, lanes: &[Lane], most: u64) -> Result<u64, LedgerError> {
        crate::cluster::sweep::postgres::count_up_to(&self.pool, &self.book, lanes, most).await
    }

    async fn stored_in(&self, lanes: &[Lane]) -> Result<u64, LedgerError> {
        crate::cluster::sweep::postgres::stored_in(&self.pool, &self.book, lanes).await
    }

    async fn counted_elsewhere(&self, counter: &Counter) -> Result<Option<Elsewhere>, LedgerError> {
        crate::cluster::sweep::postgres::counted_elsewhere(&self.pool, &self.book, counter).await
    }

    async fn glimpse(&self, counter: &Counter, most: u64) -> Result<Option<Glimpse>, LedgerError> {
        crate::cluster::sweep::postgres::glimpse(&self.pool, &self.book, counter, most).await
    }

    async fn count_some(
        &self,
        counter: &Counter,
        behind: Place,
    ) -> Result<(i64, Option<Place>), LedgerError> {
        crate::cluster::sweep::postgres::count_some(&self.pool, &self.book, counter, behind).await
    }

    async fn tell(&self, hint: Hint) -> Result<(), LedgerError> {
        let told = hints::written(&hint, &self.book);
        let values = Values::default().with(hints::CHANNEL).with(told).finish()?;
        self.pool.read("SELECT pg_notify($1, $2)", values).await.map(drop)
    }

    async fn hear(&self) -> Hint {
        match &self.ears {
            Some(ears) => ears.hear(&self.book).await,
            None => std::future::pending().await,
        }
    }

    async fn answer(&self, id: OperationId) -> Result<Option<KeptAnswer>, LedgerError> {
        crate::operations::read::postgres::answer(&self.pool, &self.book.sealer, id).await
    }

    async fn promised(&self, id: OperationId) -> Result<Option<Promised>, LedgerError> {
        crate::operations::read::postgres::promised(&self.pool, &self.book.sealer, id).await
    }

    async fn events(
        &self,
        id: OperationId,
        after: u32,
        limit: u32,
    ) -> Result<Listed<Event, u32>, LedgerError> {
        crate::operations::read::postgres::events(&self.pool, &self.book.sealer, id, after, limit)
            .await
    }

    async fn list(&self, listing: &Listing) -> Result<Page, LedgerError> {
        crate::operations::read::postgres::list(&self.pool, &self.book.sealer, listing).await
    }

    async fn descendants(
        &self,
        id: OperationId,
        limit: u32,
    ) -> Result<Listed<Operation, OperationId>, LedgerError> {
        crate::operations::read::postgres::descendants(&self.pool, &self.book.sealer, id, limit)
            .await
    }

    async fn piece(&self, body: BodyKey, number: u32) -> Result<Option<Bytes>, LedgerError> {
        crate::operations::read::postgres::piece(&self.pool, &self.book.sealer, body, number).await
    }

    async fn paused(&self) -> Batch<String> {
        crate::operations::read::postgres::paused(&self.pool).await
    }

    async fn keys(&self, listing: KeyListing) -> Result<Listed<KeyInUse, SerialName>, LedgerError> {
        crate::operations::serial_keys::postgres::keys(&self.pool, listing).await
    }

    async fn depths(&self) -> Batch<LaneDepth> {
        crate::operations::read::postgres::depths(&self.pool, &self.book).await
    }

    async fn is_delay_over(&self, now: Timestamp) -> Result<bool, LedgerError> {
        crate::operations::serial_keys::postgres::is_delay_over(&self.pool, &self.book, now).await
    }

    async fn waiting(&self) -> Result<u64, LedgerError> {
        crate::operations::read::postgres::waiting(&self.pool).await
    }

    async fn overdue(
        &self,
        lane: &Lane,
        from: LanePlace,
        look_at: usize,
        now: Timestamp,
    ) -> Result<Overdue, LedgerError> {
        crate::operations::read::postgres::overdue(
            &self.pool,
            &self.book,
            lane,
            (from, look_at),
            now,
        )
        .await
    }

    async fn oldest_due(&self, lanes: &[Lane]) -> Batch<Option<Timestamp>> {
        crate::operations::read::postgres::oldest_due(&self.pool, &self.book, lanes).await
    }

    fn deliveries(&self) -> &dyn ReadsDeliveries {
        self
    }

    async fn close(&self) {
        self.writers.close().await;
        self.pool.close().await;
    }
}

/// Takes the locks that a group needs before its verbs run.
pub(crate) async fn prepare(
    writing: &mut PgTransaction,
    settlements: &[Settlement],
    acceptances: &[Acceptance],
    alone: bool,
) -> Result<(), LedgerError> {
    let needs_places = crate::operations::accept::postgres::needs_places(acceptances);
    if settlements.is_empty() && !needs_places {
        let index = writing.book.subscribers.index();
        let alone = alone && !crate::operations::accept::postgres::makes_callbacks(acceptances);
        if alone && !webhooks::begins_are_told(&index, acceptances) {
            writing.go_alone(index.version);
        }
        return Ok(());
    }
    // Of those that would go on too: one that was called off ends.
    let held = settlements.iter().filter_map(|settlement| settlement.lease.serial);
    let digests =
        held.chain(crate::operations::accept::postgres::serial_digests(acceptances)).collect();
    let places = if needs_places { acceptances.len() } else { 0 };
    writing.prepare(digests, places).await
}
