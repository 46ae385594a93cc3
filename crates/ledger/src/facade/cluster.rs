//! The nodes of a ledger: beats, their leave, and their parts of shared limits.

use std::collections::BTreeMap;

use crate::Ledger;
use crate::cluster::fleet::{Beaten, Counted, Dead, NodeRow, Vitals};
use crate::cluster::limits::shares::{Asked, Asking, Divided, Emptied, Leaving, LimitName};
use crate::cluster::{Beat, Divide, Leave, limits, nodes};
use crate::error::LedgerError;
use crate::store::on_store;
use cloakroom_domain::Timestamp;

impl Ledger {
    /// The number of this start, which what it runs names as its owner.
    pub fn incarnation(&self) -> i64 {
        self.shared.store.incarnation()
    }

    /// The incarnations that were known to be dead when the ledger was opened.
    pub fn dead_at_open(&self) -> Vec<i64> {
        self.shared.store.dead_at_open().to_vec()
    }

    /// Tells the others that this node is there, and brings what they tell. Ledger time is
    /// the database's from then on.
    pub async fn beat(&self, vitals: Vitals) -> Result<Beaten, LedgerError> {
        let now = self.shared.clock.now();
        let counted = self.counted();
        let beaten = self.submit(Beat { vitals, counted: counted.clone(), now }).await?;
        if let Some(now) = beaten.time {
            self.shared.clock.steer(now);
        }
        self.shared.lanes.told(&counted, &beaten.elsewhere);
        let started = self.shared.lanes.started_by_queue();
        self.shared.throughput.sampled(self.shared.clock.elapsed(), started);
        Ok(beaten)
    }

    /// What this node has counted and not told yet, where there is anybody to tell.
    fn counted(&self) -> Vec<Counted> {
        if self.is_shared() { self.shared.lanes.untold() } else { Vec::new() }
    }

    /// Removes this node from the cluster, so that others need not wait for its lease, and records
    /// when the buckets of its rates would have been empty. Call it again if operations are
    /// accepted afterwards.
    pub async fn leave(
        &self,
        mut emptied: Vec<(LimitName, Timestamp)>,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        emptied.sort_unstable();
        let counted = self.unleft();
        let leaving = Leaving { counted: counted.clone(), emptied };
        self.submit(Leave { leaving, now }).await?;
        self.shared.lanes.left(&counted);
        Ok(())
    }

    /// Whether there is something to say that was not when it took leave.
    pub fn has_more_to_leave(&self) -> bool {
        !self.unleft().is_empty()
    }

    fn unleft(&self) -> Vec<Counted> {
        if self.is_shared() { self.shared.lanes.unleft() } else { Vec::new() }
    }

    /// Every node that the ledger remembers, the latest start first.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, LedgerError> {
        on_store!(&self.shared.store, reader => nodes::nodes(reader).await)
    }

    /// Whether other processes may use the ledger too.
    pub fn is_shared(&self) -> bool {
        self.shared.store.is_shared()
    }

    /// Asks for this node's part of limits that all nodes of the ledger share. What it is
    /// answered holds until it asks again, unless it is taken for dead meanwhile.
    pub async fn divide(
        &self,
        mut asked: Vec<Asked>,
        now: Timestamp,
    ) -> Result<Vec<Divided>, LedgerError> {
        asked.sort_unstable_by(|one, other| one.of.cmp(&other.of));
        let dead = self.shared.dead().clone();
        self.submit(Divide { asking: Asking { asked, dead }, now }).await
    }

    /// When the buckets of all rates were last empty. The first start of a ledger finds them
    /// full; and a node that was killed has not told when its own were.
    pub async fn emptied(&self, now: Timestamp) -> Result<Emptied, LedgerError> {
        let known: BTreeMap<_, _> =
            on_store!(&self.shared.store, reader => limits::emptied(reader).await)?
                .into_iter()
                .collect();
        let first = self.nodes().await?.len() <= 1;
        Ok(Emptied { known, otherwise: if first { Timestamp::EPOCH } else { now } })
    }

    /// Completes when another node wants its part, or has given some of its own back.
    pub async fn permits_stirred(&self) {
        self.shared.stirred.notified().await;
    }

    /// Attempts that run on other nodes, by limit, as those nodes told last.
    pub async fn used_elsewhere(&self) -> Result<Vec<(LimitName, u64)>, LedgerError> {
        limits::used_elsewhere(&self.shared.store).await
    }

    /// These nodes are dead, as far as this one can see.
    pub fn note_dead(&self, dead: Vec<Dead>) {
        *self.shared.dead() = dead;
    }
}
