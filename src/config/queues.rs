//! `[queues.NAME]`: where operations wait.
//!
//! Its invariant: there is always a queue called `default`.

use std::collections::BTreeMap;

use super::reader::Reading;

/// Where operations wait.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// How many operations may wait; past it, new ones are refused.
    pub max_depth: u32,
    /// Whether operations are accepted but not carried out.
    pub paused: bool,
}

/// The queue that routes use unless told.
pub(super) const DEFAULT: &str = "default";

pub(super) fn read(reading: &mut Reading) -> BTreeMap<String, QueueConfig> {
    let mut tables = reading.named_tables("queues");
    tables.entry(DEFAULT.to_owned()).or_default();
    let mut queues = BTreeMap::new();
    for (name, table) in tables {
        let queue = reading.table(format!("queues.{name}"), table, |section| QueueConfig {
            max_depth: section.within("max_depth", 100_000, 1..=u32::MAX),
            paused: section.get("paused", false),
        });
        queues.insert(name, queue);
    }
    queues
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use super::*;

    #[test]
    fn there_is_always_a_default_queue() {
        let expected = QueueConfig { max_depth: 100_000, paused: false };
        assert_eq!(read("").queues["default"], expected);
        let queues = read("[queues.urgent]\npaused = true").queues;
        assert_eq!(queues["default"], expected);
        assert!(queues["urgent"].paused);
    }

    #[test]
    fn a_queue_has_room_for_one() {
        assert!(faults("[queues.a]\nmax_depth = 0").contains("queues.a.max_depth"));
    }

    #[test]
    fn later_settings_are_unknown_now() {
        assert!(faults("[queues.a]\npriority = 10").contains("queues.a.priority"));
        assert!(faults("[queues.a]\ntarget_wait = \"1s\"").contains("queues.a.target_wait"));
    }

    #[test]
    fn a_name_is_plain() {
        assert!(faults("[queues.\"a b\"]").contains("letters, digits"));
        assert!(faults("[queues]\na = 3").contains("expected a [queues.a] section"));
    }
}
