//! The nodes that share a ledger, and the decision which of them are dead.
//!
//! Owns that one decision ([`Liveness`]). It depends on missing heartbeats and never on clocks that
//! differ. It must not know how heartbeats are exchanged.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a node is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It accepts, answers, and carries out.
    #[default]
    Both,
    /// It accepts and answers, and begins nothing.
    Front,
    /// It only carries out.
    Worker,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Both, Self::Front, Self::Worker];

    /// The role's name in configuration, documents and the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Front => "front",
            Self::Worker => "worker",
        }
    }

    /// Whether it carries operations out.
    pub const fn works(self) -> bool {
        !matches!(self, Self::Front)
    }

    /// Whether it answers clients.
    pub const fn answers(self) -> bool {
        !matches!(self, Self::Worker)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role; one of both, front, worker is expected")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// How often a node beats within its lease.
pub const BEATS_A_LEASE: u32 = 5;

/// How long a node may go on beginning attempts after its last confirmed beat: a third
/// of its lease before anybody may take over what it holds.
pub fn trust(lease: Duration) -> Duration {
    lease * 2 / 3
}

/// The heartbeat of a node, as other nodes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The number of its start.
    pub incarnation: i64,
    /// Rises with every beat.
    pub beat: i64,
    /// How long its beat may stay away.
    pub lease: Duration,
    /// Whether it has stopped of its own accord: then no node waits for it.
    pub ended: bool,
    /// Whether it owns what runs.
    pub holds: bool,
}

/// What a node has seen of the others' beats.
#[derive(Clone, Debug)]
pub struct Liveness {
    lease: Duration,
    looked_at: Option<Duration>,
    seen: HashMap<i64, LastBeat>,
}

#[derive(Clone, Copy, Debug)]
struct LastBeat {
    beat: i64,
    silent: Duration,
}

impl Liveness {
    /// Nothing was seen yet. A lease of another node that is shorter than this one does
    /// not count.
    pub fn new(lease: Duration) -> Self {
        Self { lease, looked_at: None, seen: HashMap::new() }
    }

    /// Takes in what was seen at `now`, which is this node's own monotonic time, and says
    /// which of them are dead: those that ended, and those whose beat has been unchanged
    /// for a whole lease.
    ///
    /// Time counts only between two looks that are as close to each other as they should
    /// be. After a longer pause the database was away, or this node stood still: then
    /// no node could beat, or this one did not watch.
    pub fn look(&mut self, now: Duration, signs: &[Heartbeat]) -> Vec<Heartbeat> {
        let passed = self.looked_at.map_or(Duration::ZERO, |before| now.saturating_sub(before));
        let regular = self.lease / 2;
        let counts = if passed <= regular { passed } else { Duration::ZERO };
        self.looked_at = Some(now);
        let before = std::mem::take(&mut self.seen);
        let mut dead = Vec::new();
        for sign in signs {
            let silent = match before.get(&sign.incarnation) {
                Some(seen) if seen.beat == sign.beat => seen.silent + counts,
                _ => Duration::ZERO,
            };
            self.seen.insert(sign.incarnation, LastBeat { beat: sign.beat, silent });
            if sign.ended || silent >= sign.lease.max(self.lease) {
                dead.push(*sign);
            }
        }
        dead
    }
}

/// A node's health, as the list of nodes shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeHealth {
    /// It beats.
    Alive,
    /// Some of its beats are missing.
    Silent,
    /// Its beat has stayed away for a lease.
    Dead,
    /// It has stopped of its own accord.
    Ended,
}

impl NodeHealth {
    /// Every standing.
    pub const ALL: [Self; 4] = [Self::Alive, Self::Silent, Self::Dead, Self::Ended];

    /// How a node looks whose last beat is that old.
    pub fn of(ended: bool, age: Duration, lease: Duration) -> Self {
        match ended {
            true => Self::Ended,
            false if age >= lease => Self::Dead,
            false if age >= lease / 2 => Self::Silent,
            false => Self::Alive,
        }
    }

    /// The name in documents and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Silent => "silent",
            Self::Dead => "dead",
            Self::Ended => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEASE: Duration = Duration::from_secs(15);
    const BEAT: Duration = Duration::from_secs(3);

    fn sign(incarnation: i64, beat: i64) -> Heartbeat {
        Heartbeat { incarnation, beat, lease: LEASE, ended: false, holds: true }
    }

    /// Looks every beat at a node that does not beat; how many looks until it is dead.
    fn looks_until_dead(liveness: &mut Liveness, from: Duration, signs: &[Heartbeat]) -> u32 {
        (0..100).find(|look| !liveness.look(from + BEAT * *look, signs).is_empty()).unwrap()
    }

    #[test]
    fn a_node_is_dead_after_a_lease_in_which_its_beat_did_not_change() {
        let mut liveness = Liveness::new(LEASE);
        assert_eq!(looks_until_dead(&mut liveness, Duration::ZERO, &[sign(1, 7)]), 5);
    }

    #[test]
    fn a_beat_that_changed_makes_it_alive_again() {
        let mut liveness = Liveness::new(LEASE);
        looks_until_dead(&mut liveness, Duration::ZERO, &[sign(1, 7)]);
        assert!(liveness.look(BEAT * 6, &[sign(1, 8)]).is_empty());
        assert_eq!(looks_until_dead(&mut liveness, BEAT * 7, &[sign(1, 8)]), 4);
    }

    #[test]
    fn a_longer_lease_of_the_other_counts_and_a_shorter_one_does_not() {
        let long = Heartbeat { lease: LEASE * 2, ..sign(1, 7) };
        assert_eq!(looks_until_dead(&mut Liveness::new(LEASE), Duration::ZERO, &[long]), 10);
        let short = Heartbeat { lease: BEAT, ..sign(1, 7) };
        assert_eq!(looks_until_dead(&mut Liveness::new(LEASE), Duration::ZERO, &[short]), 5);
    }

    #[test]
    fn who_ended_is_not_waited_for() {
        let ended = Heartbeat { ended: true, ..sign(1, 7) };
        assert_eq!(Liveness::new(LEASE).look(Duration::ZERO, &[ended]), [ended]);
    }

    #[test]
    fn a_list_shows_how_old_a_beat_is() {
        let of = |seconds| NodeHealth::of(false, Duration::from_secs(seconds), LEASE);
        assert_eq!(
            [of(0), of(8), of(15)],
            [NodeHealth::Alive, NodeHealth::Silent, NodeHealth::Dead]
        );
        assert_eq!(NodeHealth::of(true, LEASE, LEASE), NodeHealth::Ended);
    }

    #[test]
    fn roles_are_read_back_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
    }

    proptest! {
        /// Both nodes try to beat at their own pace; what falls into an outage does not
        /// come through, for either of them.
        #[test]
        fn whatever_the_outages_a_node_that_tries_to_beat_is_not_dead(
            outages in prop::collection::vec((1u64..60_000, 1u64..120_000), 1..12),
            phase in 0u64..3_000,
        ) {
            let mut away = Vec::new();
            let mut at = 0;
            for (well, out) in outages {
                away.push((at + well, at + well + out));
                at += well + out;
            }
            let answers = |now: u64| !away.iter().any(|(from, to)| (*from..*to).contains(&now));
            let (mut liveness, mut beat) = (Liveness::new(LEASE), 0);
            for now in (0..at + 60_000).step_by(100) {
                if now % 3_000 == phase / 100 * 100 && answers(now) {
                    beat += 1;
                }
                if now % 3_000 == 0 && answers(now) {
                    let dead = liveness.look(Duration::from_millis(now), &[sign(1, beat)]);
                    prop_assert!(dead.is_empty(), "at {now}");
                }
            }
        }

        #[test]
        fn a_node_that_stood_still_takes_no_other_for_dead_when_it_goes_on(still in 7_501u64..1_000_000) {
            let mut liveness = Liveness::new(LEASE);
            liveness.look(Duration::ZERO, &[sign(1, 7)]);
            let dead = liveness.look(Duration::from_millis(still), &[sign(1, 7)]);
            prop_assert!(dead.is_empty());
        }
    }
}
