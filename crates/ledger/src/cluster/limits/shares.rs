//! The division of limits among the nodes that share a ledger: its parameters, and the rows as both
//! backends read them.
//!
//! Its invariant: a node that divides a limit has locked it, so that no other does meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::fleet::{Counted, Dead};
use crate::db::statements::statements;
use crate::error::LedgerError;
use crate::rows::{BindRow, ReadRow, damaged, number, text, time};
use cloakroom_domain::Timestamp;
use cloakroom_domain::fair_share::{FairShare, LimitKind, NodeDemand, divide};

statements! {
    /// When the buckets were last empty, by their limits.
    pub(crate) const EMPTIED: &str = r"SELECT kind, name, since FROM permits WHERE incarnation = 0 AND since > 0";
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
    pub(crate) known: BTreeMap<LimitName, Timestamp>,
    pub(crate) otherwise: Timestamp,
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
pub(crate) struct Leaving {
    pub(crate) counted: Vec<Counted>,
    /// Sorted, so that no two who leave wait for each other.
    pub(crate) emptied: Vec<(LimitName, Timestamp)>,
}

/// A row of those.
pub(crate) fn emptied(row: &impl ReadRow) -> Result<(LimitName, Timestamp), LedgerError> {
    let kind = text(row, "kind")?.parse().map_err(damaged)?;
    Ok((LimitName { kind, name: text(row, "name")?.into() }, time(row, "since")?))
}

/// What a node asks for at once.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Sorted, so that no two who ask wait for each other.
    pub(crate) asked: Vec<Asked>,
    /// Nodes whose parts are free.
    pub(crate) dead: Vec<Dead>,
}

/// The part of one node, as it is written down.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) of: LimitName,
    pub(crate) stake: NodeDemand,
    pub(crate) used: u64,
    /// Whether that node is no more.
    pub(crate) gone: bool,
}

impl Part {
    pub(crate) fn read(row: &impl ReadRow) -> Result<Self, LedgerError> {
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
    pub(crate) fn put(&self, cells: &mut impl BindRow) {
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
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What each limit is divided into: what `node` is answered, and what is written of it.
/// `parts` are those of every node that is still there.
pub(crate) fn decide(
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
