//! Up to where what is looked through has been emptied, as far as this node knows.
//!
//! Owns the low-water marks. While a session holds an old snapshot, rows that were taken
//! stay at the head of an index, dead, and every look would walk past all of them. So a
//! look begins at the mark, and a slow look from the very beginning finds what came in
//! behind it: from a node whose clock is late, or from a transaction that was undone. Its
//! invariant: a mark lies in no look's future, so nothing comes in behind it that is due then.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;

/// How far behind the mark is looked: what is due at a moment is committed a little later.
const MARGIN: i64 = 200_000;
/// The same where places are numbers: so many may have been given out and not committed yet.
const MARGIN_OF_NUMBERS: i64 = 1_000;

/// What is looked through from its oldest entry on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shelf {
    /// What is ready in the lane of this number.
    Lane(i64),
    /// What follows an upstream in the lane of this number.
    Followed(i64),
    /// What waits for a serial key, by its deadline.
    Deadlines,
    /// What has a serial key and was delayed.
    Delays,
    /// What is to be freed.
    Expiries,
    /// Bodies that are deleted little by little. Their numbers stand for times: a microsecond each.
    Erasures,
}

impl Shelf {
    /// The least time between two looks from the very beginning.
    const fn slow(self) -> Duration {
        match self {
            Self::Lane(_) => Duration::from_secs(1),
            Self::Followed(_) | Self::Delays => Duration::from_secs(10),
            Self::Deadlines | Self::Expiries | Self::Erasures => Duration::from_mins(1),
        }
    }

    const fn margin(self) -> i64 {
        match self {
            Self::Erasures => MARGIN_OF_NUMBERS,
            _ => MARGIN,
        }
    }
}

/// The marks of all shelves.
pub(crate) struct Marks {
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    emptied_to: HashMap<Shelf, Timestamp>,
    looked_at: HashMap<Shelf, Timestamp>,
    lanes_looked_at: Option<Timestamp>,
    /// When something was last taken out of a lane.
    taken_at: Option<Timestamp>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { state: Mutex::default(), clock: Clock::system() }
    }
}

impl Marks {
    /// Where to begin in each of these lanes, in microseconds.
    pub(crate) fn of(&self, lanes: &[i64]) -> Vec<i64> {
        let state = self.state();
        lanes.iter().map(|lane| state.low(Shelf::Lane(*lane))).collect()
    }

    /// Where a look at a shelf begins that takes what is due by `now`: at the mark, or now and then
    /// at the very beginning.
    pub(crate) fn begin(&self, shelf: Shelf, now: Timestamp) -> i64 {
        let (read, mut state) = (self.clock.now(), self.state());
        let looked_at = state.looked_at.get(&shelf).copied();
        if looked_at.is_none_or(|at| read.since(at) >= shelf.slow() || at > read) {
            state.looked_at.insert(shelf, read);
            return i64::MIN;
        }
        match state.emptied_to.get(&shelf) {
            // Another look was at a later time than this one.
            Some(mark) if *mark > now => i64::MIN,
            _ => state.low(shelf),
        }
    }

    /// A claim at `now` took what was due in a lane up to then.
    pub(crate) fn taken(&self, lane: i64, to: Timestamp, now: Timestamp) {
        let mut state = self.state();
        state.taken_at = Some(now);
        state.emptied_to.insert(Shelf::Lane(lane), to);
    }

    /// A look took what was due on a shelf up to then.
    pub(crate) fn emptied(&self, shelf: Shelf, to: Timestamp) {
        self.state().emptied_to.insert(shelf, to);
    }

    /// Something was put onto a shelf that is due then.
    pub(crate) fn put(&self, shelf: Shelf, due_at: Timestamp) {
        if let Some(mark) = self.state().emptied_to.get_mut(&shelf) {
            *mark = due_at.min(*mark);
        }
    }

    /// Whether it is time for a look at lanes from the very beginning; the caller does it.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.clock.now();
        let mut state = self.state();
        let slow = Shelf::Lane(0).slow();
        let due = state.lanes_looked_at.is_none_or(|at| now.since(at) >= slow || at > now);
        if due {
            state.lanes_looked_at = Some(now);
        }
        due
    }

    /// A look from the beginning found the head of a lane here. What is due before that may still
    /// come in, as long as that lies in the future.
    pub(crate) fn found(&self, lane: i64, head: Timestamp) {
        let mut state = self.state();
        match state.taken_at {
            Some(now) => state.emptied_to.insert(Shelf::Lane(lane), head.min(now)),
            None => state.emptied_to.remove(&Shelf::Lane(lane)),
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn low(&self, shelf: Shelf) -> i64 {
        let mark = self.emptied_to.get(&shelf);
        mark.map_or(i64::MIN, |mark| mark.as_micros().saturating_sub(shelf.margin()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_head_that_lies_in_the_future_hides_nothing_that_comes_in_before_it() {
        let marks = Marks::default();
        marks.found(7, at(500));
        assert_eq!(marks.of(&[7]), [i64::MIN]);
        marks.taken(7, at(100), at(101));
        marks.found(7, at(500));
        assert!(marks.of(&[7])[0] <= at(101).as_micros());
        marks.found(7, at(90));
        assert!(marks.of(&[7])[0] <= at(90).as_micros());
    }

    #[test]
    fn a_look_begins_at_the_mark_but_for_the_first_and_what_is_put_behind_it_is_found() {
        let marks = Marks::default();
        let look = |now| marks.begin(Shelf::Expiries, at(now));
        assert_eq!(look(100), i64::MIN);
        marks.emptied(Shelf::Expiries, at(100));
        assert!(look(100) > at(99).as_micros());
        // Time that has gone back, or another node's.
        assert_eq!(look(50), i64::MIN);
        marks.put(Shelf::Expiries, at(200));
        assert!(look(100) > at(99).as_micros());
        marks.put(Shelf::Expiries, at(30));
        assert!(look(100) <= at(30).as_micros());
    }
}
