//! `[engine]`: how much this node carries out at once.

use std::time::Duration;

use super::{
    reader::Section,
    units::{days, hours},
};

/// How much this node carries out at once.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// How many attempts may run at once on this node.
    pub slots: usize,
    /// How often the ledger is looked through for what does not add up.
    pub reconcile: Option<Duration>,
}

impl EngineConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let reconcile = section.within("reconcile", hours(1), Duration::ZERO..=days(365));
        Self {
            slots: section.within("slots", 256, 1..=65_536),
            reconcile: (!reconcile.is_zero()).then_some(reconcile),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};

    #[test]
    fn a_node_has_at_least_one_slot() {
        assert_eq!(read("").engine.slots, 256);
        assert!(faults("[engine]\nslots = 0").contains("engine.slots"));
    }
}
