//! Verbs of webhooks: how they get into a transaction.
//!
//! Owns which transaction they go into. What they make due is an effect of it.

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::announce::NewlyDue;
use super::transaction::{Deliveries, OptionalScribe};
use crate::Ledger;
use crate::commit::transaction::Transaction;
use crate::commit::verb::{Grouping, Surroundings, Verb};
use crate::error::LedgerError;

type Running<'t, T> = BoxFuture<'t, Result<(T, NewlyDue), LedgerError>>;
type Run<T> =
    dyn for<'t> Fn(&'t mut dyn Deliveries, OptionalScribe<'t>) -> Running<'t, T> + Send + Sync;

/// A verb of webhooks.
struct Errand<T> {
    single: bool,
    run: Box<Run<T>>,
}

#[async_trait]
impl<T: Send + Sync + 'static> Verb for Errand<T> {
    type Output = T;

    fn grouping(&self, is_shared: bool) -> Grouping {
        // A single statement changes nothing that others in its transaction go by; where others
        // write too, it is better off by itself all the same.
        if is_shared || !self.single { Grouping::First } else { Grouping::Together }
    }

    fn is_single(&self) -> bool {
        self.single
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<T, LedgerError> {
        let (answer, newly) = (self.run)(transaction.deliveries(), around.scribe).await?;
        around.effects.due.extend(newly);
        Ok(answer)
    }
}

/// A verb whose answer makes nothing due.
pub(crate) async fn quiet<T>(
    verb: impl Future<Output = Result<T, LedgerError>>,
) -> Result<(T, NewlyDue), LedgerError> {
    verb.await.map(|answer| (answer, Vec::new()))
}

impl Ledger {
    /// Does what these come to, and waits until it is durable.
    pub(crate) async fn errand<T: Send + Sync + 'static>(
        &self,
        run: Box<Run<T>>,
    ) -> Result<T, LedgerError> {
        self.sent_out(false, run).await
    }

    /// One that is a single statement.
    pub(super) async fn single_errand<T: Send + Sync + 'static>(
        &self,
        run: Box<Run<T>>,
    ) -> Result<T, LedgerError> {
        self.sent_out(true, run).await
    }

    async fn sent_out<T: Send + Sync + 'static>(
        &self,
        single: bool,
        run: Box<Run<T>>,
    ) -> Result<T, LedgerError> {
        self.submit(Errand { single, run }).await
    }
}
