//! `[engine]`: how much this node carries out at once, and how that is shared.

use super::reader::Section;
use super::units::Percent;

/// How much this node carries out at once.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// How many attempts may run at once on this node.
    pub slots: usize,
    /// The largest share of the slots that one upstream gets where there are several, in
    /// percent.
    pub max_share: u8,
    /// The share of the slots that is kept for first attempts, in percent.
    pub first_attempts: u8,
}

impl EngineConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            slots: section.within("slots", 256, 1..=65_536),
            max_share: section.within("max_share", Percent(50), Percent(1)..=Percent(100)).0,
            first_attempts: section
                .within("first_attempts", Percent(20), Percent(0)..=Percent(90))
                .0,
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
}
