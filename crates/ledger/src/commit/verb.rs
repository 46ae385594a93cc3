//! A write of the ledger: its work in a transaction, and its reply once that is durable.
//!
//! Owns the box that carries a verb, its output and its caller through the group commit, so that an
//! output can reach no other caller. A verb is one type; how it is queued and grouped, what it does
//! and what follows from it stand beside each other in its file.

use std::fmt;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::cache::lane_depths::{Lanes, Moment};
use crate::commit::effects::Effects;
use crate::commit::transaction::Transaction;
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::state::Shared;
use crate::webhooks::MessageRenderer;

/// Where the caller of a write is told its fate.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// Which transaction a write goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// One with others.
    Together,
    /// One of its own, before the others: all nodes want what it locks, or it changes what others
    /// in its transaction go by.
    First,
    /// One of its own, behind the others: it is long and may fail, and no other write is to wait
    /// for it or to fail with it.
    Last,
}

/// What a verb finds beside its transaction.
pub(crate) struct Surroundings<'s> {
    /// What it sets in motion, once it is durable.
    pub(crate) effects: &'s mut Effects,
    /// The author of what receivers are told, where there is one.
    pub(crate) renderer: Option<&'s dyn MessageRenderer>,
}

/// A write that is committed with others, and does not come in batches.
#[async_trait]
pub(crate) trait Verb: Send + Sync + 'static {
    /// What its caller is told.
    type Output: Send + Sync + 'static;

    /// The writes that it queues with.
    fn class(&self) -> Class {
        Class::Others
    }

    /// Which transaction it goes into, in a ledger that other processes write to or in one of this
    /// process alone.
    fn grouping(&self, _is_shared: bool) -> Grouping {
        Grouping::Together
    }

    /// Whether it is one statement, which may go down without a transaction around it.
    fn is_single(&self) -> bool {
        false
    }

    /// About how many octets of bodies it writes or deletes.
    fn octets(&self) -> u64 {
        0
    }

    /// Does it. A transaction that fails is tried again, or in two halves: then it runs anew.
    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError>;

    /// It is durable: lanes follow before anything more is put into them. `since` is a moment before
    /// its transaction.
    fn follow(&self, _output: &Self::Output, _lanes: &Lanes, _since: Moment) {}

    /// It is durable: what others are told, right before its caller is.
    fn announce(&self, _output: &Self::Output, _shared: &Shared) {}
}

/// A verb on its way, with its caller.
struct Waiting<V: Verb> {
    verb: V,
    reply: Reply<V::Output>,
    output: Option<V::Output>,
}

/// A verb on its way, whichever it is.
#[async_trait]
pub(crate) trait PendingVerb: Send + Sync {
    /// See [`Verb::class`].
    fn class(&self) -> Class;
    /// See [`Verb::grouping`].
    fn grouping(&self, is_shared: bool) -> Grouping;
    /// See [`Verb::is_single`].
    fn is_single(&self) -> bool;
    /// See [`Verb::octets`].
    fn octets(&self) -> u64;
    /// Does it, and keeps its output.
    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<(), LedgerError>;
    /// See [`Verb::follow`].
    fn follow(&self, lanes: &Lanes, since: Moment);
    /// It is durable: tells everybody concerned.
    fn tell(self: Box<Self>, shared: &Shared);
    /// It was not done: tells its caller.
    fn fail(self: Box<Self>, error: LedgerError);
}

/// Puts a verb into its box.
pub(crate) fn pending<V: Verb>(verb: V, reply: Reply<V::Output>) -> Box<dyn PendingVerb> {
    Box::new(Waiting { verb, reply, output: None })
}

#[async_trait]
impl<V: Verb> PendingVerb for Waiting<V> {
    fn class(&self) -> Class {
        self.verb.class()
    }

    fn grouping(&self, is_shared: bool) -> Grouping {
        self.verb.grouping(is_shared)
    }

    fn is_single(&self) -> bool {
        self.verb.is_single()
    }

    fn octets(&self) -> u64 {
        self.verb.octets()
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<(), LedgerError> {
        self.output = Some(self.verb.run(transaction, around).await?);
        Ok(())
    }

    fn follow(&self, lanes: &Lanes, since: Moment) {
        if let Some(output) = &self.output {
            self.verb.follow(output, lanes, since);
        }
    }

    fn tell(self: Box<Self>, shared: &Shared) {
        let Self { verb, reply, output } = *self;
        // A verb that did not run has no output, and its caller finds the reply dropped.
        let Some(output) = output else { return };
        verb.announce(&output, shared);
        drop(reply.send(Ok(output)));
    }

    fn fail(self: Box<Self>, error: LedgerError) {
        // The caller may have gone away; then nothing is to be told.
        drop(self.reply.send(Err(error)));
    }
}

impl fmt::Debug for dyn PendingVerb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PendingVerb")
    }
}
