//! Slots for polling monitors, separate for each upstream.
//!
//! Owns how many monitors of an upstream are polled at once, and how long a silent monitor rests. Its
//! invariant: a silent upstream takes no slot from another one. It must not know how to poll a
//! monitor.

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

/// The result of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollOutcome {
    /// An answer, whatever its content.
    Answer,
    /// No answer, or none that can be read.
    Silence,
}

#[derive(Default)]
struct UpstreamMonitors {
    asked: usize,
    unanswered: u32,
}

impl UpstreamMonitors {
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
struct MonitorSlotState {
    upstreams: HashMap<Arc<str>, UpstreamMonitors>,
    /// How often in a row each of these did not answer, and when it last did not.
    silent: HashMap<OperationId, (u32, Timestamp)>,
    turn: usize,
}

/// The slots of all upstreams.
#[derive(Default)]
pub(super) struct MonitorSlots {
    state: Mutex<MonitorSlotState>,
    freed: Notify,
}

impl MonitorSlots {
    fn state(&self) -> MutexGuard<'_, MonitorSlotState> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an upstream has a slot again that had none.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Whether some upstream has no slot left.
    pub(super) fn is_some_full(&self) -> bool {
        self.state().upstreams.iter().any(|(name, upstream)| upstream.free(name) == 0)
    }

    /// How much of each lane there are slots for. Where an upstream has fewer slots than lanes,
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
            let free = state.upstreams.get(name).map_or_else(
                || UpstreamMonitors::default().free(name),
                |upstream| upstream.free(name),
            );
            let turn = state.turn % lanes.len();
            lanes.rotate_left(turn);
            let each = (free / lanes.len()).max(1);
            let served = lanes.into_iter().take(free);
            wants.extend(served.map(|lane| Want { lane: lane.clone(), limit: each }));
        }
        wants
    }

    /// Takes a slot of an upstream.
    pub(super) fn take(self: &Arc<Self>, upstream: &Arc<str>) -> MonitorSlot {
        self.state().upstreams.entry(Arc::clone(upstream)).or_default().asked += 1;
        MonitorSlot { slots: Arc::clone(self), upstream: Arc::clone(upstream) }
    }
}

/// How long a monitor waits that has not answered that many times in a row.
fn pause_after(times: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

/// A slot of an upstream, which goes back when it is dropped.
pub(super) struct MonitorSlot {
    slots: Arc<MonitorSlots>,
    upstream: Arc<str>,
}

impl MonitorSlot {
    /// Notes what came of asking for an operation; how long it is to wait where that is more
    /// than usual.
    pub(super) fn note(
        &self,
        id: OperationId,
        heard: PollOutcome,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut state = self.slots.state();
        let upstream = state.upstreams.entry(Arc::clone(&self.upstream)).or_default();
        if heard == PollOutcome::Answer {
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

impl Drop for MonitorSlot {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        let Some(upstream) = state.upstreams.get_mut(&self.upstream) else { return };
        let was_full = upstream.free(&self.upstream) == 0;
        upstream.asked = upstream.asked.saturating_sub(1);
        if was_full && upstream.free(&self.upstream) > 0 {
            self.slots.freed.notify_one();
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

    fn free(slots: &MonitorSlots, lanes: &[Lane], upstream: &str) -> usize {
        let wants = slots.wants(lanes);
        wants.iter().filter(|want| &*want.lane.upstream == upstream).map(|want| want.limit).sum()
    }

    #[test]
    fn each_upstream_has_its_places_and_the_gateway_s_jobs_have_theirs() {
        let slots = Arc::new(MonitorSlots::default());
        let lanes = [lane("a", "silent"), lane("a", "well"), lane("a", jobs::OWN)];
        let taken: Vec<_> = (0..MOST).map(|_| slots.take(&"silent".into())).collect();
        assert!(slots.is_some_full());
        let all = ["silent", "well", jobs::OWN].map(|name| free(&slots, &lanes, name));
        assert_eq!(all, [0, MOST, jobs::AT_ONCE as usize]);
        drop(taken);
        assert_eq!(free(&slots, &lanes, "silent"), MOST);
        assert!(!slots.is_some_full());
    }

    #[test]
    fn an_upstream_without_answers_is_probed_until_one_comes() {
        let slots = Arc::new(MonitorSlots::default());
        let lanes = [lane("a", "up")];
        let slot = slots.take(&"up".into());
        for number in 0..SILENT {
            assert_eq!(free(&slots, &lanes, "up"), MOST - 1);
            slot.note(id(number as u8), PollOutcome::Silence, NOW);
        }
        assert_eq!(free(&slots, &lanes, "up"), PROBES - 1);
        slot.note(id(9), PollOutcome::Answer, NOW);
        assert_eq!(free(&slots, &lanes, "up"), MOST - 1);
    }

    #[test]
    fn pauses_grow_until_the_monitor_answers() {
        let slots = Arc::new(MonitorSlots::default());
        let slot = slots.take(&"up".into());
        let pause = |heard| slot.note(id(1), heard, NOW).map(|pause| pause.as_secs());
        let pauses: Vec<_> = (0..7).filter_map(|_| pause(PollOutcome::Silence)).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(PollOutcome::Answer), None);
        assert_eq!(pause(PollOutcome::Silence), Some(2));
    }

    #[test]
    fn lanes_of_an_upstream_share_its_places_and_take_turns_where_those_are_few() {
        let slots = Arc::new(MonitorSlots::default());
        let lanes: Vec<_> = ["a", "b", "c"].iter().map(|queue| lane(queue, "up")).collect();
        assert!(free(&slots, &lanes, "up") <= MOST);
        let _taken: Vec<_> = (1..MOST).map(|_| slots.take(&"up".into())).collect();
        let mut served: Vec<_> =
            (0..3).flat_map(|_| slots.wants(&lanes)).map(|want| want.lane.queue).collect();
        served.sort();
        assert_eq!(served.iter().map(|queue| &**queue).collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
