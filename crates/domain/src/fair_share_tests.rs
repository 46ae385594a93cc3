//! A simulated fleet: in any order of events no node uses more than exists, and each node gets its
//! fair part.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

/// One node: what it uses, may use and would use.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    limit: u64,
    taken: u64,
    may: u64,
    needs: u64,
    dead: bool,
}

/// Nodes, and what is written down of them.
#[derive(Debug, Default)]
struct Fleet {
    nodes: BTreeMap<i64, Node>,
    written: BTreeMap<i64, NodeDemand>,
    now: Timestamp,
    started: i64,
}

impl Fleet {
    fn of(limit: u64, needs: &[u64]) -> Self {
        let mut fleet = Self { now: Timestamp::from_micros(1), ..Self::default() };
        for needs in needs {
            let node = fleet.join(limit);
            fleet.nodes.get_mut(&node).unwrap().needs = *needs;
        }
        fleet
    }

    fn join(&mut self, limit: u64) -> i64 {
        self.started += 1;
        self.nodes.insert(self.started, Node { limit, ..Node::default() });
        self.ask(self.started);
        self.started
    }

    fn ask(&mut self, node: i64) -> Option<FairShare> {
        let it = *self.nodes.get(&node).filter(|node| !node.dead)?;
        let before = self.written.get(&node).copied();
        let stake = NodeDemand {
            node,
            limit: it.limit,
            holds: it.taken.max(it.may),
            needs: it.needs,
            since: before.map_or(Timestamp::EPOCH, |stake| stake.since),
        };
        let others: Vec<_> =
            self.written.values().filter(|stake| stake.node != node).copied().collect();
        let held = before.map_or(0, |stake| stake.holds);
        let share = divide(LimitKind::UpstreamInFlight, stake, held, &others, self.now);
        let sum = self.sum();
        self.written.insert(node, NodeDemand { holds: share.holds, since: share.since, ..stake });
        let bounded = share.limit < UNLIMITED;
        assert!(!bounded || self.sum() <= sum.max(share.limit), "{share:?} {self:?}");
        self.nodes.get_mut(&node).unwrap().may = share.may;
        Some(share)
    }

    fn sum(&self) -> u64 {
        self.written.values().map(|stake| stake.holds).sum()
    }

    fn used(&self) -> u64 {
        self.nodes.values().map(|node| node.taken).sum()
    }

    /// Everybody takes what they may, and gives back what they may not have.
    fn use_up(&mut self) {
        for node in self.nodes.values_mut().filter(|node| !node.dead) {
            node.taken = node.needs.min(node.may);
        }
    }

    /// Everybody asks as often as it takes until nothing changes.
    fn settle(&mut self) {
        for _ in 0..6 {
            let nodes: Vec<_> = self.nodes.keys().copied().collect();
            for node in nodes {
                self.use_up();
                self.ask(node);
            }
        }
        self.use_up();
    }

    fn may(&self) -> Vec<u64> {
        self.nodes.values().map(|node| node.may).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Needs(usize, u64),
    Takes(usize),
    Releases(usize),
    Asks(usize),
    Dies(usize),
    IsBuried(usize),
    Leaves(usize),
    Joins(u64),
    TimePasses(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => (0usize..6, 0u64..12).prop_map(|(at, needs)| Event::Needs(at, needs)),
        9 => (0usize..6).prop_map(Event::Takes),
        6 => (0usize..6).prop_map(Event::Releases),
        9 => (0usize..6).prop_map(Event::Asks),
        1 => (0usize..6).prop_map(Event::Dies),
        1 => (0usize..6).prop_map(Event::IsBuried),
        1 => (0usize..6).prop_map(Event::Leaves),
        1 => (0u64..9).prop_map(Event::Joins),
        2 => (0u64..3_000).prop_map(Event::TimePasses),
    ];
    proptest::collection::vec(event, 1..120)
}

impl Fleet {
    fn happens(&mut self, event: Event, limit: Option<u64>) {
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        let at = |at: usize| nodes.get(at).copied().unwrap_or(-1);
        match event {
            Event::Needs(node, needs) => {
                self.nodes.entry(at(node)).and_modify(|node| node.needs = needs);
            }
            Event::Takes(node) => {
                let free = |node: &Node| !node.dead && node.taken < node.may;
                self.nodes.entry(at(node)).and_modify(|it| it.taken += u64::from(free(it)));
            }
            Event::Releases(node) => {
                self.nodes.entry(at(node)).and_modify(|it| it.taken = it.taken.saturating_sub(1));
            }
            Event::Asks(node) => drop(self.ask(at(node))),
            // What it had sent may be with the upstream still.
            Event::Dies(node) => {
                self.nodes.entry(at(node)).and_modify(|node| node.dead = true);
            }
            Event::IsBuried(node) => {
                if self.nodes.get(&at(node)).is_some_and(|node| node.dead) {
                    self.nodes.remove(&at(node));
                    self.written.remove(&at(node));
                }
            }
            Event::Leaves(node) => {
                if self.nodes.get(&at(node)).is_some_and(|node| !node.dead && node.taken == 0) {
                    self.nodes.remove(&at(node));
                    self.written.remove(&at(node));
                }
            }
            Event::Joins(other) => drop(self.join(limit.unwrap_or(other))),
            Event::TimePasses(millis) => self.now = self.now + Duration::from_millis(millis),
        }
    }

    fn check(&self) {
        for (node, it) in &self.nodes {
            let written = self.written.get(node).map_or(0, |stake| stake.holds);
            assert!(it.taken.max(it.may) <= written, "{node}: {self:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_node_ever_uses_more_than_the_limit_whatever_happens(
        limit in 0u64..9, events in events(),
    ) {
        let mut fleet = Fleet::of(limit, &[3, 3]);
        for event in events {
            fleet.happens(event, Some(limit));
            fleet.check();
            prop_assert!(fleet.used() <= limit && fleet.sum() <= limit, "{fleet:?}");
        }
    }

    #[test]
    fn where_configurations_differ_the_lowest_counts_from_the_next_ask_on(events in events()) {
        let mut fleet = Fleet::of(5, &[3, 3]);
        for event in events {
            // That no ask makes it worse is asserted with each.
            fleet.happens(event, None);
            fleet.check();
        }
        fleet.nodes.retain(|_, node| !node.dead);
        let nodes = &fleet.nodes;
        fleet.written.retain(|node, _| nodes.contains_key(node));
        fleet.settle();
        let lowest = fleet.nodes.values().map(|node| node.limit).min().unwrap_or(0);
        prop_assert!(fleet.used() <= lowest && fleet.sum() <= lowest, "{fleet:?}");
    }

    #[test]
    fn everybody_gets_what_they_need_up_to_a_fair_part_and_nothing_lies_unused(
        limit in 1u64..40, needs in proptest::collection::vec(0u64..60, 1..6), first in 0u64..60,
    ) {
        // All of it was with the first one.
        let mut fleet = Fleet::of(limit, &[first]);
        fleet.settle();
        for needs in &needs {
            let node = fleet.join(limit);
            fleet.nodes.get_mut(&node).unwrap().needs = *needs;
        }
        fleet.settle();
        let all: Vec<_> = fleet.nodes.values().copied().collect();
        let wanting = all.iter().filter(|node| node.needs > 0).count() as u64;
        prop_assert_eq!(fleet.used(), limit.min(all.iter().map(|node| node.needs).sum()));
        if wanting <= limit {
            for node in all {
                prop_assert!(node.taken >= node.needs.min(limit / wanting.max(1)), "{fleet:?}");
            }
        }
    }

    #[test]
    fn with_fewer_parts_than_nodes_each_has_its_turn(limit in 1u64..4, more in 1usize..4) {
        let count = limit as usize + more;
        let mut fleet = Fleet::of(limit, &vec![9; count]);
        let mut turns = vec![0_u32; count];
        for _ in 0..600 {
            fleet.now = fleet.now + Duration::from_millis(500);
            fleet.settle();
            for (turn, may) in turns.iter_mut().zip(fleet.may()) {
                *turn += u32::from(may > 0);
            }
        }
        let fair = 600 * limit as u32 / count as u32;
        prop_assert!(turns.iter().all(|turn| *turn > fair / 2), "{turns:?}");
    }

    #[test]
    fn the_parts_of_a_rate_bring_no_more_together_than_the_rate(
        limit in 1u64..3_600_000, cuts in proptest::collection::vec(0u64..1000, 1..5),
    ) {
        let whole = Rate::hourly(limit).unwrap();
        let parts = LimitKind::QueueRate.parts(limit);
        let (mut left, mut hourly, mut burst) = (parts, 0, 0);
        for cut in cuts {
            let taken = cut.min(left);
            left -= taken;
            if let Some(rate) = whole.part(taken, parts) {
                hourly += rate.in_an_hour();
                burst += rate.burst();
            }
        }
        prop_assert!(hourly <= whole.in_an_hour() && burst <= whole.burst());
    }
}

#[test]
fn one_node_alone_has_the_whole_from_its_start() {
    let fleet = Fleet::of(64, &[0]);
    assert_eq!(fleet.may(), [64]);
}

#[test]
fn a_node_that_joins_gets_its_part_as_soon_as_the_other_gives_back() {
    let mut fleet = Fleet::of(6, &[9]);
    fleet.settle();
    let two = fleet.join(6);
    fleet.nodes.get_mut(&two).unwrap().needs = 9;
    let asked = fleet.ask(two).unwrap();
    assert!(asked.owed && asked.stirs && asked.may == 0);
    // It still uses all six; three of them end.
    let told = fleet.ask(1).unwrap();
    assert_eq!((told.may, told.holds), (3, 6));
    fleet.use_up();
    let given = fleet.ask(1).unwrap();
    assert!(given.holds == 3 && given.stirs);
    assert_eq!(fleet.ask(two).unwrap().may, 3);
}

#[test]
fn without_a_limit_no_node_has_anything_to_give_back() {
    let mut fleet = Fleet::of(UNLIMITED, &[1, 1]);
    assert_eq!(fleet.may(), [UNLIMITED, UNLIMITED]);
    fleet.join(2);
    fleet.settle();
    assert!(fleet.used() <= 2, "{fleet:?}");
}

#[test]
fn kinds_are_written_and_read_alike() {
    for kind in LimitKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
}

#[test]
fn a_slow_rate_stays_until_it_has_brought_a_token() {
    assert_eq!(LimitKind::UpstreamRate.parts(30 * 60), 1);
    assert_eq!(LimitKind::UpstreamRate.turn(30 * 60), Duration::from_secs(2));
    assert_eq!(LimitKind::UpstreamRate.turn(1), HOUR);
    assert_eq!(LimitKind::UpstreamRate.parts(500 * 3600), 500);
}
