//! How a verb of webhooks gets into a transaction, and what came of it to whoever asked.
//!
//! Owns what is done once it is durable: what it made due is noted, and its answer told.

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::announce::NewlyDue;
use super::transaction::{Deliveries, Told};
use crate::committer::{Tell, Write};
use crate::error::LedgerError;
use crate::{Ledger, Shared};

/// A verb that is told of its own fate, in a transaction of its own.
#[async_trait]
pub(crate) trait Errand: Send + Sync {
    /// Whether it is one statement, which may go down by itself, and changes nothing that is
    /// remembered of receivers.
    fn is_single(&self) -> bool;

    /// Does it, and remembers what came of it.
    async fn run(
        &mut self,
        deliveries: &mut dyn Deliveries,
        scribe: Told<'_>,
    ) -> Result<(), LedgerError>;

    /// It was not done.
    fn fail(self: Box<Self>, error: LedgerError);

    /// It was done, durably.
    fn tell(self: Box<Self>, shared: &Shared);
}

impl std::fmt::Debug for dyn Errand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Errand")
    }
}

type Running<'t, T> = BoxFuture<'t, Result<(T, NewlyDue), LedgerError>>;
type Run<T> = dyn for<'t> Fn(&'t mut dyn Deliveries, Told<'t>) -> Running<'t, T> + Send + Sync;

struct Asked<T> {
    single: bool,
    run: Box<Run<T>>,
    tell: Tell<T>,
    came_of_it: Option<(T, NewlyDue)>,
}

#[async_trait]
impl<T: Send + Sync + 'static> Errand for Asked<T> {
    fn is_single(&self) -> bool {
        self.single
    }

    async fn run(
        &mut self,
        deliveries: &mut dyn Deliveries,
        scribe: Told<'_>,
    ) -> Result<(), LedgerError> {
        self.came_of_it = Some((self.run)(deliveries, scribe).await?);
        Ok(())
    }

    fn fail(self: Box<Self>, error: LedgerError) {
        // Whoever asked may have gone away; then nobody needs to know.
        drop(self.tell.send(Err(error)));
    }

    fn tell(self: Box<Self>, shared: &Shared) {
        let Self { came_of_it, tell, .. } = *self;
        let Some((answer, newly)) = came_of_it else { return };
        if !newly.is_empty() {
            // What was made due may be of a message that more receivers are to be given.
            shared.fans.notify_one();
        }
        shared.made_due(newly);
        drop(tell.send(Ok(answer)));
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
        let asked = |tell| Asked { single, run, tell, came_of_it: None };
        self.write(|tell| Write::Errand(Box::new(asked(tell)))).await
    }
}
