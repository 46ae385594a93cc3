//! `[queues.NAME]`: where operations wait.
//!
//! Its invariant: there is always a queue called `default`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::raw_value::RawValue;
use super::reader::{ConfigReader, Section};
use super::setting::Setting;
use super::units::{MOMENT, Size, hours, minutes};
use cloakroom_domain::limit::Rate;
use cloakroom_domain::urgency::MOST_PRIORITY;

/// Where operations wait.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// Which queue goes first: the higher one, until another has waited too long.
    pub priority: i32,
    /// How long an operation may wait before it counts as late.
    pub target_wait: Duration,
    /// How many operations of it may run at once; as many as there are slots where there
    /// is none.
    pub max_in_flight: Option<u32>,
    /// How many attempts may begin in a time; as many as come where there is none.
    pub rate: Option<Rate>,
    /// How many operations may wait; past it, new ones are refused.
    pub max_depth: u32,
    /// How many octets may be stored for operations that have not ended; past it, new ones are
    /// refused.
    pub max_stored: usize,
    /// Whether operations are accepted but not carried out.
    pub paused: bool,
}

/// What operations that have not ended may take of the ledger: enough for a backlog of a day, and
/// less than what most disks have left.
const MAX_STORED: Size = Size::mib(10 * 1024);

/// More than any disk has.
const MOST_STORED: Size = Size::mib(1 << 30);

/// More operations than a ledger is made for.
const MOST_DEPTH: u32 = 1_000_000_000;

/// As many as an upstream may have.
const MOST_IN_FLIGHT: u32 = 65_536;

/// The queue that routes use unless told.
pub(super) const DEFAULT: &str = "default";

pub(super) fn read(reading: &mut ConfigReader) -> BTreeMap<String, QueueConfig> {
    let mut tables = reading.named_tables("queues");
    tables.entry(DEFAULT.to_owned()).or_default();
    let mut queues = BTreeMap::new();
    for (name, table) in tables {
        let queue = reading.table(format!("queues.{name}"), table, queue);
        queues.insert(name, queue);
    }
    queues
}

fn queue(section: &mut Section<'_>) -> QueueConfig {
    let most = hours(24 * 7);
    QueueConfig {
        priority: section.within("priority", 0, -MOST_PRIORITY..=MOST_PRIORITY),
        target_wait: section.within("target_wait", minutes(1), MOMENT..=most),
        max_in_flight: section.get("max_in_flight", None::<MaxInFlight>).map(|most| most.0),
        rate: section.get("rate", None),
        max_depth: section.within("max_depth", 100_000, 1..=MOST_DEPTH),
        max_stored: section.within("max_stored", MAX_STORED, Size(1)..=MOST_STORED).0,
        paused: section.get("paused", false),
    }
}

/// How many operations may run at once.
struct MaxInFlight(u32);

impl Setting for MaxInFlight {
    fn read(given: &RawValue) -> Result<Self, String> {
        if given.whole() == Ok(0) {
            return Err("0 would carry nothing out; paused = true does that".to_owned());
        }
        u32::read_within(given, &(1..=MOST_IN_FLIGHT)).map(Self)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{faults, read};
    use super::*;

    #[test]
    fn there_is_always_a_default_queue() {
        let expected = QueueConfig {
            priority: 0,
            target_wait: minutes(1),
            max_in_flight: None,
            rate: None,
            max_depth: 100_000,
            max_stored: 10 << 30,
            paused: false,
        };
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
    fn what_may_be_expected_of_a_queue_is_read() {
        let text = "[queues.urgent]\npriority = -10\ntarget_wait = \"1s\"\nmax_in_flight = 4\nrate = \"30/m\"\n\
                    max_stored = \"3GiB\"";
        let urgent = &read(text).queues["urgent"];
        assert_eq!((urgent.priority, urgent.target_wait), (-10, Duration::from_secs(1)));
        assert_eq!((urgent.max_in_flight, urgent.rate), (Some(4), "30/m".parse().ok()));
        assert_eq!(urgent.max_stored, 3 << 30);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, says) in [
            ("priority = 101", "from -100 to 100"),
            ("priority = \"high\"", "a whole number"),
            ("target_wait = \"0s\"", "from 1ms"),
            ("max_in_flight = 0", "paused = true"),
            ("max_in_flight = -1", "from 1 to 65536"),
            ("max_depth = -1", "from 1 to 1000000000"),
            ("max_stored = -1", "from 1 to 1024TiB"),
            ("rate = \"5 per second\"", "500/s"),
            ("target_wiat = \"1s\"", "did you mean target_wait?"),
            ("max_stored = \"0\"", "max_stored"),
            ("max_stored = \"2 gigs\"", "64KiB"),
            ("prioritiy = 1", "did you mean priority?"),
        ] {
            let found = faults(&format!("[queues.a]\n{line}"));
            assert!(found.contains("queues.a.") && found.contains(says), "{line}: {found}");
        }
    }

    #[test]
    fn a_name_is_plain() {
        assert!(faults("[queues.\"a b\"]").contains("letters, digits"));
        assert!(faults("[queues]\na = 3").contains("expected a [queues.a] section"));
    }
}
