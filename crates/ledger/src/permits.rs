//! The division of limits among the nodes that share a ledger: its parameters, and the rows as both
//! backends read them.
//!
//! Its invariant: a node that divides a limit has locked it, so that no other does meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ledger;
use super::error::LedgerError;
use super::fleet::{Counted, Dead};
use super::rows::{BindRow, ReadRow, damaged, number, text, time};
use crate::cluster::{Divide, limits};
use crate::db::statements::statements;
use crate::store::on_store;
use cloakroom_domain::Timestamp;
use cloakroom_domain::fair_share::{FairShare, LimitKind, NodeDemand, divide};

statements! {
    /// When the buckets were last empty, by their limits.
    pub(super) const EMPTIED: &str = r"SELECT kind, name, since FROM permits WHERE incarnation = 0 AND since > 0";
}

/// A limit that nodes share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName {
    /// What it limits.
    pub kind: LimitKind,
    /// The name of the queue or upstream.
    pub name: Arc<str>,
}

/// What a node says of itself when it asks for its part of a limit.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The limit.
    pub of: LimitName,
    /// How much it is in this node's configuration: attempts, or attempts an hour.
    pub limit: u64,
    /// How many parts it may be using at this moment.
    pub holds: u64,
    /// How many it has use for.
    pub needs: u64,
    /// Attempts that run.
    pub used: u64,
}

/// What a node may have of a limit.
#[derive(Clone, Debug)]
pub struct Divided {
    /// The limit.
    pub of: LimitName,
    /// Its part.
    pub share: FairShare,
}

/// When the buckets of rates were last empty, as far as those told who stopped in good
/// order: from then on they have filled.
#[derive(Clone, Debug, Default)]
pub struct Emptied {
    known: BTreeMap<LimitName, Timestamp>,
    otherwise: Timestamp,
}

impl Emptied {
    /// Nothing is known: as if all had been used up by then.
    pub fn unknown(now: Timestamp) -> Self {
        Self { known: BTreeMap::new(), otherwise: now }
    }

    /// When the bucket of this one was.
    pub fn of(&self, limit: &LimitName) -> Timestamp {
        self.known.get(limit).copied().unwrap_or(self.otherwise)
    }
}

/// What a node leaves when it stops.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) counted: Vec<Counted>,
    /// Sorted, so that no two who leave wait for each other.
    pub(super) emptied: Vec<(LimitName, Timestamp)>,
}

/// A row of those.
pub(super) fn emptied(row: &impl ReadRow) -> Result<(LimitName, Timestamp), LedgerError> {
    let kind = text(row, "kind")?.parse().map_err(damaged)?;
    Ok((LimitName { kind, name: text(row, "name")?.into() }, time(row, "since")?))
}

/// What a node asks for at once.
#[derive(Debug)]
pub(super) struct Asking {
    /// Sorted, so that no two who ask wait for each other.
    pub(super) asked: Vec<Asked>,
    /// Nodes whose parts are free.
    pub(super) dead: Vec<Dead>,
}

/// The part of one node, as it is written down.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) of: LimitName,
    pub(super) stake: NodeDemand,
    pub(super) used: u64,
    /// Whether that node is no more.
    pub(super) gone: bool,
}

impl Part {
    pub(super) fn read(row: &impl ReadRow) -> Result<Self, LedgerError> {
        Ok(Self {
            of: LimitName {
                kind: text(row, "kind")?.parse().map_err(damaged)?,
                name: text(row, "name")?.into(),
            },
            stake: NodeDemand {
                node: number(row, "incarnation")?,
                limit: number(row, "most")?,
                holds: number(row, "holds")?,
                needs: number(row, "needs")?,
                since: time(row, "since")?,
            },
            used: number(row, "used")?,
            gone: number::<i64>(row, "gone")? > 0,
        })
    }

    /// Puts what a row of it has, in the order of its columns.
    pub(super) fn put(&self, cells: &mut impl BindRow) {
        let Self { of, stake, used, .. } = self;
        cells
            .text(of.kind.as_str().to_owned())
            .text(of.name.to_string())
            .number(stake.node)
            .number(stored(stake.limit))
            .number(stored(stake.holds))
            .number(stored(stake.needs))
            .number(stored(*used))
            .number(stake.since.as_micros());
    }
}

/// A count as it is stored.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What each limit is divided into: what `node` is answered, and what is written of it.
/// `parts` are those of every node that is still there.
pub(super) fn decide(
    asked: &[Asked],
    parts: &[Part],
    node: i64,
    now: Timestamp,
) -> Vec<(Divided, Part)> {
    let answer = |asked: &Asked| {
        let of = |part: &&Part| part.of == asked.of;
        let mine = parts.iter().filter(of).find(|part| part.stake.node == node);
        let others = parts.iter().filter(of).filter(|part| part.stake.node != node);
        let others: Vec<_> = others.map(|part| part.stake).collect();
        let since = mine.map_or(Timestamp::EPOCH, |part| part.stake.since);
        let &Asked { limit, holds, needs, used, .. } = asked;
        let stake = NodeDemand { node, limit, holds, needs, since };
        let held = mine.map_or(0, |part| part.stake.holds);
        let share = divide(asked.of.kind, stake, held, &others, now);
        let stake = NodeDemand { holds: share.holds, since: share.since, ..stake };
        let part = Part { of: asked.of.clone(), stake, used, gone: false };
        (Divided { of: asked.of.clone(), share }, part)
    };
    asked.iter().map(answer).collect()
}

impl Ledger {
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
