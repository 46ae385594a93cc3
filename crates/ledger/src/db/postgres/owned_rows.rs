//! The rows of this node in `running`, as far as its beats have seen them.
//!
//! Owns the bounds between which a beat looks for them. While an old snapshot is held,
//! each row that has ended stays in the index of its node, dead, and a look from the beginning
//! would walk past all of them. So a beat looks up those rows that the beat before saw, and
//! looks for others only from that beat on. Its invariant: a row is written with a time that is
//! no earlier than the last beat that had been read by then.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::rows::as_micros;
use cloakroom_domain::Timestamp;

/// The longest that a transaction takes from the making of a row to the end of its commit: each
/// statement and each wait has a much shorter limit.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_mins(1);

/// What the last beat saw.
#[derive(Default)]
pub(crate) struct Property(Mutex<PropertyState>);

#[derive(Default)]
struct PropertyState {
    /// The rows that it saw: their places, and since when they run.
    known: Vec<(i64, i64)>,
    /// When it was, in this node's time; no beat has been read where there is none.
    read_at: Option<Timestamp>,
}

impl Property {
    /// From when on a beat looks for rows, in microseconds, and the places that it looks up.
    pub(crate) fn question(&self) -> (i64, Vec<i64>) {
        let state = self.state();
        (state.low(), state.known.iter().map(|(place, _)| *place).collect())
    }

    /// The time, in microseconds, that no row of this node is older than, now or until its next
    /// beat.
    pub(crate) fn oldest(&self) -> i64 {
        let state = self.state();
        let oldest = state.known.iter().map(|(_, since)| *since).min();
        oldest.map_or(state.low(), |oldest| oldest.min(state.low())).max(0)
    }

    /// A beat at `now` saw these rows: their places, and since when they run.
    pub(crate) fn seen(&self, known: Vec<(i64, i64)>, now: Timestamp) {
        let mut state = self.state();
        state.known = known;
        state.read_at = state.read_at.max(Some(now));
    }

    /// The time, in microseconds, that a row gets which is handed out at `now`.
    pub(crate) fn since(&self, now: Option<Timestamp>) -> i64 {
        let at = self.state().read_at.max(now);
        at.map_or(i64::MIN, Timestamp::as_micros)
    }

    fn state(&self) -> MutexGuard<'_, PropertyState> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PropertyState {
    fn low(&self) -> i64 {
        let back = as_micros(ON_ITS_WAY);
        self.read_at.map_or(i64::MIN, |at| at.as_micros().saturating_sub(back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_row_that_was_on_its_way_at_a_beat_lies_within_the_bounds_of_the_next() {
        let property = Property::default();
        assert_eq!(property.question(), (i64::MIN, Vec::new()));
        assert_eq!(property.since(Some(at(7))), at(7).as_micros());
        let on_its_way = property.since(Some(at(500)));
        assert_eq!(property.oldest(), 0);
        property.seen(vec![(1, at(90).as_micros()), (2, at(540).as_micros())], at(550));
        assert_eq!(property.oldest(), at(90).as_micros());
        let (low, known) = property.question();
        assert!(low <= on_its_way && low > at(400).as_micros());
        assert_eq!(known, [1, 2]);
        // An operation that waited long before it was written down, and a clock that goes back.
        assert_eq!(property.since(Some(at(300))), at(550).as_micros());
        property.seen(vec![(3, at(545).as_micros())], at(20));
        assert_eq!(property.question(), (low, vec![3]));
        assert_eq!(property.oldest(), low);
    }
}
