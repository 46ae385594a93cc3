//! Places for asking monitors, each upstream's apart from the others'.
//!
//! Owns how many monitors of an upstream are asked at once, and how long one waits that did not
//! answer. Its invariant: what one upstream leaves unanswered takes no place from another one. It
//! must not know how a monitor is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::jobs;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::{OperationId, Timestamp};
use cloakroom_ledger::Want;

/// How many monitors of an upstream are asked at once while it answers.
const MOST: usize = 64;
/// How many are asked at once while it does not: enough to find out when it does again.
const PROBES: usize = 4;
/// So many questions in a row without an answer make an upstream silent.
const SILENT: u32 = 5;
/// The pause of a monitor that has not answered once; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause of a monitor.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long a monitor is remembered that has not answered.
const REMEMBERED: Duration = Duration::from_mins(10);
/// So many are remembered before the first of them are forgotten.
const REMEMBERS: usize = 4096;

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// An answer, whatever it said.
    Answer,
    /// None, or none that could be read.
    Nothing,
}

#[derive(Default)]
struct Upstream {
    asked: usize,
    unanswered: u32,
}

impl Upstream {
    fn free(&self, name: &str) -> usize {
        let most = match self.unanswered {
            // The gateway's own jobs.
            _ if name == jobs::OWN => jobs::AT_ONCE as usize,
            SILENT.. => PROBES,
            _ => MOST,
        };
        most.saturating_sub(self.asked)
    }
}

#[derive(Default)]
struct State {
    upstreams: HashMap<Arc<str>, Upstream>,
    /// How often in a row each of these did not answer, and when it last did not.
    silent: HashMap<OperationId, (u32, Timestamp)>,
    turn: usize,
}

/// The places of all upstreams.
#[derive(Default)]
pub(super) struct Places {
    state: Mutex<State>,
    freed: Notify,
}

impl Places {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an upstream has a place again that had none.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Whether some upstream has no place left.
    pub(super) fn is_some_full(&self) -> bool {
        self.state().upstreams.iter().any(|(name, upstream)| upstream.free(name) == 0)
    }

    /// How much of each lane there are places for. Where an upstream has fewer places than lanes,
    /// its lanes take turns.
    pub(super) fn wants(&self, lanes: &[Lane]) -> Vec<Want> {
        let mut state = self.state();
        state.turn = state.turn.wrapping_add(1);
        let mut by_upstream: HashMap<&Arc<str>, Vec<&Lane>> = HashMap::new();
        for lane in lanes {
            by_upstream.entry(&lane.upstream).or_default().push(lane);
        }
        let mut wants = Vec::with_capacity(lanes.len());
        for (name, mut lanes) in by_upstream {
            let free = state
                .upstreams
                .get(name)
                .map_or_else(|| Upstream::default().free(name), |upstream| upstream.free(name));
            let turn = state.turn % lanes.len();
            lanes.rotate_left(turn);
            let each = (free / lanes.len()).max(1);
            let served = lanes.into_iter().take(free);
            wants.extend(served.map(|lane| Want { lane: lane.clone(), limit: each }));
        }
        wants
    }

    /// Takes a place of an upstream.
    pub(super) fn take(self: &Arc<Self>, upstream: &Arc<str>) -> Place {
        self.state().upstreams.entry(Arc::clone(upstream)).or_default().asked += 1;
        Place { places: Arc::clone(self), upstream: Arc::clone(upstream) }
    }
}

/// How long a monitor waits that has not answered that many times in a row.
fn pause_after(times: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

/// A place of an upstream, which goes back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    upstream: Arc<str>,
}

impl Place {
    /// Notes what came of asking for an operation; how long it is to wait where that is more
    /// than usual.
    pub(super) fn note(&self, id: OperationId, heard: Heard, now: Timestamp) -> Option<Duration> {
        let mut state = self.places.state();
        let upstream = state.upstreams.entry(Arc::clone(&self.upstream)).or_default();
        if heard == Heard::Answer {
            upstream.unanswered = 0;
            state.silent.remove(&id);
            return None;
        }
        upstream.unanswered = upstream.unanswered.saturating_add(1);
        if state.silent.len() >= REMEMBERS {
            state.silent.retain(|_, (_, at)| now.since(*at) < REMEMBERED);
        }
        let (times, at) = state.silent.entry(id).or_insert((0, now));
        (*times, *at) = (times.saturating_add(1), now);
        Some(pause_after(*times))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.state();
        let Some(upstream) = state.upstreams.get_mut(&self.upstream) else { return };
        let was_full = upstream.free(&self.upstream) == 0;
        upstream.asked = upstream.asked.saturating_sub(1);
        if was_full && upstream.free(&self.upstream) > 0 {
            self.places.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn lane(queue: &str, upstream: &str) -> Lane {
        let (queue, upstream) = (queue.into(), upstream.into());
        Lane { queue, upstream, express: false, quarantine: false }
    }

    fn id(number: u8) -> OperationId {
        OperationId::from_bytes([number; 16])
    }

    fn free(places: &Places, lanes: &[Lane], upstream: &str) -> usize {
        let wants = places.wants(lanes);
        wants.iter().filter(|want| &*want.lane.upstream == upstream).map(|want| want.limit).sum()
    }

    #[test]
    fn each_upstream_has_its_places_and_the_gateway_s_jobs_have_theirs() {
        let places = Arc::new(Places::default());
        let lanes = [lane("a", "silent"), lane("a", "well"), lane("a", jobs::OWN)];
        let taken: Vec<_> = (0..MOST).map(|_| places.take(&"silent".into())).collect();
        assert!(places.is_some_full());
        let all = ["silent", "well", jobs::OWN].map(|name| free(&places, &lanes, name));
        assert_eq!(all, [0, MOST, jobs::AT_ONCE as usize]);
        drop(taken);
        assert_eq!(free(&places, &lanes, "silent"), MOST);
        assert!(!places.is_some_full());
    }

    #[test]
    fn an_upstream_without_answers_is_probed_until_one_comes() {
        let places = Arc::new(Places::default());
        let lanes = [lane("a", "up")];
        let place = places.take(&"up".into());
        for number in 0..SILENT {
            assert_eq!(free(&places, &lanes, "up"), MOST - 1);
            place.note(id(number as u8), Heard::Nothing, NOW);
        }
        assert_eq!(free(&places, &lanes, "up"), PROBES - 1);
        place.note(id(9), Heard::Answer, NOW);
        assert_eq!(free(&places, &lanes, "up"), MOST - 1);
    }

    #[test]
    fn pauses_grow_until_the_monitor_answers() {
        let places = Arc::new(Places::default());
        let place = places.take(&"up".into());
        let pause = |heard| place.note(id(1), heard, NOW).map(|pause| pause.as_secs());
        let pauses: Vec<_> = (0..7).filter_map(|_| pause(Heard::Nothing)).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(Heard::Answer), None);
        assert_eq!(pause(Heard::Nothing), Some(2));
    }

    #[test]
    fn lanes_of_an_upstream_share_its_places_and_take_turns_where_those_are_few() {
        let places = Arc::new(Places::default());
        let lanes: Vec<_> = ["a", "b", "c"].iter().map(|queue| lane(queue, "up")).collect();
        assert!(free(&places, &lanes, "up") <= MOST);
        let _taken: Vec<_> = (1..MOST).map(|_| places.take(&"up".into())).collect();
        let mut served: Vec<_> =
            (0..3).flat_map(|_| places.wants(&lanes)).map(|want| want.lane.queue).collect();
        served.sort();
        assert_eq!(served.iter().map(|queue| &**queue).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
