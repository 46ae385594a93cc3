//! `[engine]`: the role of this node, the number of its slots, and how queues share them.

use std::time::Duration;

use super::enums::Role;
use super::reader::Section;
use super::units::{Percent, days, hours};

/// The role of this node, and the number of attempts that it runs at once.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// The name of the node; see [`EngineConfig::node_name`].
    pub name: Option<String>,
    /// The role of the node.
    pub role: Role,
    /// The queues that it works on; empty: every one.
    pub queues: Vec<String>,
    /// How many attempts may run at once on this node.
    pub slots: usize,
    /// The largest share of the slots that one upstream gets where there are several, in
    /// percent.
    pub max_share: u8,
    /// The share of the slots that is kept for first attempts, in percent.
    pub first_attempts: u8,
    /// How often the ledger is looked through for what does not add up.
    pub reconcile: Option<Duration>,
}

impl EngineConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let reconcile = section.within("reconcile", hours(1), Duration::ZERO..=days(365));
        Self {
            name: section.get("name", None),
            role: section.get("role", Role::Both),
            queues: section.get("queues", Vec::new()),
            slots: section.within("slots", 256, 1..=65_536),
            max_share: section.within("max_share", Percent(50), Percent(1)..=Percent(100)).0,
            first_attempts: section
                .within("first_attempts", Percent(20), Percent(0)..=Percent(90))
                .0,
            reconcile: (!reconcile.is_zero()).then_some(reconcile),
        }
    }

    /// The name of the node: the machine's name unless another is set.
    pub fn node_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            match name.trim() {
                "" => "node".to_owned(),
                name => name.to_owned(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use super::*;

    #[test]
    fn a_node_has_at_least_one_slot() {
        assert_eq!(read("").engine.slots, 256);
        assert!(faults("[engine]\nslots = 0").contains("engine.slots"));
    }

    #[test]
    fn one_upstream_gets_half_of_the_slots_and_retries_four_fifths_unless_set() {
        let engine = read("").engine;
        assert_eq!((engine.max_share, engine.first_attempts), (50, 20));
        let engine = read("[engine]\nmax_share = \"100%\"\nfirst_attempts = \"0%\"").engine;
        assert_eq!((engine.max_share, engine.first_attempts), (100, 0));
        assert!(faults("[engine]\nmax_share = \"0%\"").contains("from 1% to 100%"));
        assert!(faults("[engine]\nfirst_attempts = 0.2").contains("engine.first_attempts"));
        assert!(faults("[engine]\nmax_shares = \"50%\"").contains("did you mean max_share?"));
    }

    #[test]
    fn a_node_does_everything_unless_told() {
        let engine = read("").engine;
        assert_eq!((engine.role, engine.queues.len()), (Role::Both, 0));
        assert!(!engine.node_name().is_empty());
    }

    #[test]
    fn a_fleet_needs_a_database_that_it_can_share() {
        for role in ["front", "worker"] {
            let lines = format!("[engine]\nrole = {role:?}\n");
            assert!(faults(&lines).contains("PostgreSQL"), "{role}");
            let shared = format!("{lines}[store]\nurl = \"postgres://db/x\"");
            assert_eq!(read(&shared).engine.role.as_str(), role);
        }
        assert!(faults("[engine]\nrole = \"boss\"").contains("engine.role"));
    }

    #[test]
    fn a_queue_that_a_node_works_on_is_there() {
        let says = faults("[engine]\nqueues = [\"reprots\"]\n[queues.reports]");
        assert!(says.contains("engine.queues") && says.contains("reprots"), "{says}");
        let engine = read("[engine]\nqueues = [\"reports\", \"default\"]\n[queues.reports]").engine;
        assert_eq!(engine.queues, ["reports", "default"]);
    }
}
