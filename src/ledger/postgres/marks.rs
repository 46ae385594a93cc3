//! Up to where each lane has been emptied, as far as this node knows.
//!
//! Owns the low-water marks. While somebody holds an old snapshot, rows that were taken
//! stay at the head of a lane, dead, and every claim would walk past all of them. So a
//! claim begins at the mark, and a slow look from the very beginning finds what came in
//! behind it: from a node whose clock is late, or from a transaction that was undone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::Timestamp;

/// How far behind the mark is looked: what is due at a moment is committed a little later.
const MARGIN: Duration = Duration::from_millis(200);
/// The least time between two looks from the beginning.
const SLOW: Duration = Duration::from_secs(1);

/// The marks of all lanes, by their numbers.
pub(super) struct Marks {
    state: Mutex<State>,
    clock: Clock,
}

#[derive(Default)]
struct State {
    emptied_to: HashMap<i64, Timestamp>,
    looked_at: Option<Timestamp>,
}

impl Default for Marks {
    fn default() -> Self {
        Self { state: Mutex::default(), clock: Clock::system() }
    }
}

impl Marks {
    /// Where to begin in each of these lanes, in microseconds.
    pub(super) fn of(&self, lanes: &[i64]) -> Vec<i64> {
        let state = self.state();
        let margin = i64::try_from(MARGIN.as_micros()).unwrap_or_default();
        let low = |lane| {
            let mark = state.emptied_to.get(lane);
            mark.map_or(i64::MIN, |mark| mark.as_micros().saturating_sub(margin))
        };
        lanes.iter().map(low).collect()
    }

    /// A claim took what was due up to then.
    pub(super) fn taken(&self, lane: i64, to: Timestamp) {
        self.state().emptied_to.insert(lane, to);
    }

    /// Whether it is time for a look from the very beginning; whoever asks does it.
    pub(super) fn is_due(&self) -> bool {
        let now = self.clock.now();
        let mut state = self.state();
        let due = state.looked_at.is_none_or(|at| now.since(at) >= SLOW || at > now);
        if due {
            state.looked_at = Some(now);
        }
        due
    }

    /// A look from the beginning found the head of a lane here.
    pub(super) fn found(&self, lane: i64, head: Timestamp) {
        self.state().emptied_to.insert(lane, head);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
