//! Claims: how operations are handed out to be carried out, followed or ended.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use async_trait::async_trait;

use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;

use crate::cache::lane_depths::{Lanes, Moment};
use crate::cluster::fleet::{Dead, LeaseKey};
use crate::commit::transaction::{Transaction, by_backend};
use crate::commit::verb::{Surroundings, Verb};
use crate::commit::write_queue::Class;
use crate::error::LedgerError;
use crate::model::{Claimed, Leased, Want};
use crate::state::Shared;

/// Hands out due operations.
pub(crate) struct Claim {
    /// How many of which lanes.
    pub(crate) wants: Vec<Want>,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Claim {
    type Output = Vec<Claimed>;

    fn class(&self) -> Class {
        Class::Claims
    }

    fn is_single(&self) -> bool {
        true
    }

    fn follow(&self, claimed: &Self::Output, lanes: &Lanes, since: Moment) {
        for Claimed { lane, leased, next_due } in claimed {
            lanes.claimed(lane, leased.len() as u64, *next_due, since);
        }
    }

    fn announce(&self, claimed: &Self::Output, shared: &Shared) {
        for Claimed { leased, .. } in claimed {
            shared.changed(leased.iter().map(|leased| leased.id));
        }
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, claim(&self.wants, self.now, around.effects))
    }
}

/// Hands out due operations that follow an upstream, until `visible_again` at the latest.
pub(crate) struct ClaimWaiting {
    /// How many of which lanes.
    pub(crate) wants: Vec<Want>,
    /// Now.
    pub(crate) now: Timestamp,
    /// When an operation that was not settled is handed out once more.
    pub(crate) visible_again: Timestamp,
}

#[async_trait]
impl Verb for ClaimWaiting {
    type Output = Vec<Leased>;

    fn class(&self) -> Class {
        Class::Claims
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            Transaction::Sqlite(writing) => sqlite::claim_waiting(
                writing,
                &self.wants,
                self.now,
                self.visible_again,
                around.effects,
            ),
            Transaction::Postgres(writing) => {
                postgres::claim_waiting(
                    writing,
                    &self.wants,
                    self.now,
                    self.visible_again,
                    around.effects,
                )
                .await
            }
        }
    }
}

/// Hands out operations that wait for a serial key past their deadline.
pub(crate) struct ClaimOverdue {
    /// How many at most.
    pub(crate) limit: usize,
    /// Now.
    pub(crate) now: Timestamp,
    /// When an operation that was not settled is handed out once more.
    pub(crate) visible_again: Timestamp,
}

#[async_trait]
impl Verb for ClaimOverdue {
    type Output = Vec<Leased>;

    fn class(&self) -> Class {
        Class::Maintenance
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        match transaction {
            Transaction::Sqlite(writing) => sqlite::claim_overdue(
                writing,
                self.limit,
                self.now,
                self.visible_again,
                around.effects,
            ),
            Transaction::Postgres(writing) => {
                postgres::claim_overdue(
                    writing,
                    self.limit,
                    self.now,
                    self.visible_again,
                    around.effects,
                )
                .await
            }
        }
    }
}

/// Hands out those of these operations that still lie in a lane, to be ended.
pub(crate) struct ClaimExpired {
    /// The lane.
    pub(crate) lane: Lane,
    /// The places of the operations.
    pub(crate) seqs: Vec<i64>,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for ClaimExpired {
    type Output = Vec<Leased>;

    fn class(&self) -> Class {
        Class::Maintenance
    }

    fn follow(&self, leased: &Self::Output, lanes: &Lanes, _since: Moment) {
        lanes.removed(&self.lane, leased.len() as u64);
    }

    fn announce(&self, leased: &Self::Output, shared: &Shared) {
        shared.changed(leased.iter().map(|leased| leased.id));
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, claim_expired(&self.lane, &self.seqs, self.now, around.effects))
    }
}

/// Hands out what dead nodes held, unless they have beaten since.
pub(crate) struct ClaimOrphans {
    /// The nodes.
    pub(crate) dead: Vec<Dead>,
    /// How many at most.
    pub(crate) limit: usize,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for ClaimOrphans {
    type Output = Vec<Leased>;

    fn class(&self) -> Class {
        Class::Claims
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, claim_orphans(&self.dead, self.limit, self.now, around.effects))
    }
}

/// Hands out anew what this node was handed and does not hold, and remembers whether it had begun.
pub(crate) struct Reclaim {
    /// The hand-outs.
    pub(crate) lost: Vec<LeaseKey>,
    /// Whether they had begun.
    pub(crate) begun: bool,
    /// Now.
    pub(crate) now: Timestamp,
}

#[async_trait]
impl Verb for Reclaim {
    type Output = Vec<Leased>;

    fn class(&self) -> Class {
        Class::Claims
    }

    async fn run(
        &mut self,
        transaction: &mut Transaction,
        around: &mut Surroundings<'_>,
    ) -> Result<Self::Output, LedgerError> {
        by_backend!(transaction, reclaim(&self.lost, self.begun, self.now, around.effects))
    }
}
