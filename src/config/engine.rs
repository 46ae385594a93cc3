//! `[engine]`: how much this node carries out at once.

use super::reader::Section;

/// How much this node carries out at once.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// How many attempts may run at once on this node.
    pub slots: usize,
}

impl EngineConfig {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { slots: section.within("slots", 256, 1..=65_536) }
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
