//! The division of a shared limit among the nodes of a ledger.
//!
//! Owns one decision ([`divide`]): the part of a limit that a node may use, given what all nodes hold
//! and need. Its invariants: the parts on record never add up to more than the limit, and a node never
//! uses more than its part on record. It must not know where parts are recorded.
//!
//! A limit is divided into whole parts: of `max_in_flight`, one attempt each; of a rate, the tokens
//! that may be used at once, each with its share of the rate. So the parts together never allow more
//! than the limit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Timestamp;
use super::limit::Rate;

/// The value that stands for no limit.
pub const UNLIMITED: u64 = 1 << 40;

/// How long a node keeps a part for which others wait that have none, where there are
/// fewer parts than nodes.
const TURN: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_hours(1);

/// The quantity that a limit bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitKind {
    /// Attempts of a queue that run.
    QueueInFlight,
    /// Attempts of a queue that begin.
    QueueRate,
    /// Attempts to an upstream that run.
    UpstreamInFlight,
    /// Attempts to an upstream that begin.
    UpstreamRate,
}

impl LimitKind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::QueueInFlight, Self::QueueRate, Self::UpstreamInFlight, Self::UpstreamRate];

    /// The name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueInFlight => "queue-in-flight",
            Self::QueueRate => "queue-rate",
            Self::UpstreamInFlight => "upstream-in-flight",
            Self::UpstreamRate => "upstream-rate",
        }
    }

    /// Into how many parts a limit is divided. It is measured in attempts, or in attempts
    /// an hour.
    pub fn parts(self, limit: u64) -> u64 {
        match self {
            Self::QueueInFlight | Self::UpstreamInFlight => limit,
            Self::QueueRate | Self::UpstreamRate => {
                Rate::hourly(limit).map_or(0, |rate| u64::from(rate.burst()))
            }
        }
    }

    /// How long a part stays with a node while others wait for one: of a slow rate, until
    /// it has brought a token.
    fn turn(self, limit: u64) -> Duration {
        match self {
            Self::QueueInFlight | Self::UpstreamInFlight => TURN,
            Self::QueueRate | Self::UpstreamRate => {
                let micros = HOUR.as_micros() * u128::from(self.parts(limit));
                let token = micros / u128::from(limit.max(1));
                TURN.max(Duration::from_micros(u64::try_from(token).unwrap_or(u64::MAX)))
            }
        }
    }
}

/// A text names no kind of limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of limit")]
pub struct UnknownLimitKind;

impl FromStr for LimitKind {
    type Err = UnknownLimitKind;

    fn from_str(text: &str) -> Result<Self, UnknownLimitKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownLimitKind)
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One node's holdings and needs of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeDemand {
    /// The number of its start.
    pub node: i64,
    /// The limit in its configuration.
    pub limit: u64,
    /// How many parts it may be using.
    pub holds: u64,
    /// How many it has use for.
    pub needs: u64,
    /// When it last came to hold any.
    pub since: Timestamp,
}

/// The part of a limit that a node may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FairShare {
    /// The lowest limit among the nodes.
    pub limit: u64,
    /// How many parts it may use from now on.
    pub may: u64,
    /// How many it holds; more than it may use, where it still uses them.
    pub holds: u64,
    /// When it last came to hold any.
    pub since: Timestamp,
    /// Whether others hold what it should have: it is worth asking again soon.
    pub owed: bool,
    /// Whether others should be told to ask: they have too much, or may have more.
    pub stirs: bool,
    /// Whether no other node has a demand.
    pub alone: bool,
}

/// The part for `asker`, which holds the parts in its demand and cannot give them up at once. `held` is what was written down for it before.
pub fn divide(
    kind: LimitKind,
    asker: NodeDemand,
    held: u64,
    others: &[NodeDemand],
    now: Timestamp,
) -> FairShare {
    let limit = others.iter().fold(asker.limit, |lowest, other| lowest.min(other.limit));
    let alone = others.is_empty();
    if limit >= UNLIMITED {
        let (may, since) = (UNLIMITED, asker.since);
        return FairShare { limit, may, holds: may, since, owed: false, stirs: false, alone };
    }
    let parts = kind.parts(limit);
    let stakes: Vec<_> = std::iter::once(asker).chain(others.iter().copied()).collect();
    let fair = fair(parts, kind.turn(limit), &stakes, now);
    let target = fair.first().copied().unwrap_or(0);
    let elsewhere = others.iter().fold(0_u64, |sum, other| sum.saturating_add(other.holds));
    // What was taken for dead meanwhile may have gone to others.
    let kept = asker.holds.min(held);
    let may = target.min(kept.max(parts.saturating_sub(elsewhere)));
    let holds = asker.holds.max(may);
    let before = stakes.iter().zip(&fair).skip(1);
    let wanting = before.clone().any(|(other, fair)| *fair > other.holds);
    let rich = before.clone().any(|(other, fair)| *fair < other.holds);
    let owed = target > may && rich;
    let since = if asker.holds == 0 && holds > 0 { now } else { asker.since };
    FairShare { limit, may, holds, since, owed, stirs: owed || (holds < held && wanting), alone }
}

/// The fair part of each: what it needs, where that is no more than an equal part; what is
/// over goes to those that need more, and parts without need are spread over all.
fn fair(parts: u64, turn: Duration, stakes: &[NodeDemand], now: Timestamp) -> Vec<u64> {
    let wanting = stakes.iter().filter(|stake| stake.needs > 0).count() as u64;
    if wanting > parts {
        return in_turn(parts, turn, stakes, now);
    }
    let mut by_need: Vec<usize> = (0..stakes.len()).collect();
    by_need.sort_by_key(|at| stakes.get(*at).map(|stake| (stake.needs, stake.node)));
    let (mut left, mut fair) = (parts, vec![0; stakes.len()]);
    for (place, at) in by_need.iter().enumerate() {
        if let (Some(stake), Some(part)) = (stakes.get(*at), fair.get_mut(*at)) {
            *part = stake.needs.min(left / (stakes.len() - place) as u64);
            left -= *part;
        }
    }
    let each = left / stakes.len().max(1) as u64;
    let more = left % stakes.len().max(1) as u64;
    by_need.sort_by_key(|at| stakes.get(*at).map(|stake| stake.node));
    for (place, at) in by_need.iter().enumerate() {
        if let Some(part) = fair.get_mut(*at) {
            *part += each + u64::from((place as u64) < more);
        }
    }
    fair
}

/// One part for each of the next nodes in turn, where there are fewer parts than nodes.
fn in_turn(parts: u64, turn: Duration, stakes: &[NodeDemand], now: Timestamp) -> Vec<u64> {
    let mut queue: Vec<usize> = (0..stakes.len()).collect();
    queue.retain(|at| stakes.get(*at).is_some_and(|stake| stake.needs > 0));
    queue.sort_by_key(|at| {
        stakes.get(*at).map(|stake| {
            let rank = match (stake.holds > 0, now.since(stake.since) < turn) {
                (true, true) => 0,
                (false, _) => 1,
                (true, false) => 2,
            };
            (rank, stake.since, stake.node)
        })
    });
    let mut fair = vec![0; stakes.len()];
    for at in queue.into_iter().take(usize::try_from(parts).unwrap_or(usize::MAX)) {
        if let Some(part) = fair.get_mut(at) {
            *part = 1;
        }
    }
    fair
}

#[cfg(test)]
#[path = "fair_share_tests.rs"]
mod tests;
