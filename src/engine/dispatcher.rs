//! What is claimed, and when.
//!
//! Owns the order in which lanes are served: those with a client on the line first, then
//! the one whose oldest is due longest. Its invariant: it never claims more than it holds
//! permits for. It must not know what an attempt does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::beats::Loop;
use super::permits::{Permit, Purpose};
use super::{Shared, executor};
use crate::domain::Timestamp;
use crate::domain::operation::Lane;
use crate::ledger::{Claimed, LaneDepth, LedgerError, Want};

/// How soon a claim is tried again that failed, or brought nothing where something
/// seemed due.
const BACK_OFF: Duration = Duration::from_secs(1);
/// The longest without a look at the lanes, so that a loop that hangs can be told.
const IDLE: Duration = Duration::from_secs(10);

/// Claims until the tasks drain.
pub(super) async fn run(shared: Arc<Shared>) {
    while !shared.tasks.is_draining() {
        let now = shared.clock.now();
        let wake = match step(&shared, now).await {
            Ok(wake) => wake.unwrap_or(now + IDLE).min(now + IDLE),
            Err(error) => {
                tracing::warn!(%error, "nothing could be claimed; trying again in a second");
                shared.pause(BACK_OFF).await;
                continue;
            }
        };
        shared.beats.beat(Loop::Dispatcher, now);
        if wake <= now {
            continue;
        }
        tokio::select! {
            () = shared.tasks.draining() => return,
            () = shared.ledger.work_came() => {}
            () = shared.permits.freed() => {}
            () = shared.clock.sleep_until(wake) => {}
        }
    }
}

/// Claims once what is due and can be begun. Returns when to look again by itself, if
/// that is known; `now` where there may be more at once.
async fn step(shared: &Arc<Shared>, now: Timestamp) -> Result<Option<Timestamp>, LedgerError> {
    if !shared.pulse.may_begin() {
        return Ok(None);
    }
    let mut lanes = shared.ledger.lanes();
    lanes.retain(|depth| depth.oldest_due.is_some() && shared.is_claimed(&depth.lane));
    let next = lanes.iter().filter_map(|depth| depth.oldest_due).filter(|due| *due > now).min();
    let mut reserved = reserve(shared, by_turn(lanes, now));
    if reserved.is_empty() {
        return Ok(next);
    }
    let wants = reserved
        .iter()
        .map(|(lane, permits)| Want { lane: lane.clone(), limit: permits.len() })
        .collect();
    let claimed = shared.ledger.claim(wants, now).await?;
    let began: usize = claimed.into_iter().map(|it| begin(shared, it, &mut reserved)).sum();
    let again = if began > 0 { now } else { now + BACK_OFF };
    Ok(Some(next.map_or(again, |next| next.min(again))))
}

/// The lanes in which somebody is due, in the order in which they are served.
fn by_turn(mut lanes: Vec<LaneDepth>, now: Timestamp) -> Vec<LaneDepth> {
    lanes.retain(|depth| depth.oldest_due.is_some_and(|due| due <= now));
    lanes.sort_by_key(|depth| (!depth.lane.express, depth.oldest_due));
    lanes
}

/// Permits for as much of each lane as can be begun now.
fn reserve(shared: &Shared, lanes: Vec<LaneDepth>) -> HashMap<Lane, Vec<Permit>> {
    if lanes.is_empty() {
        return HashMap::new();
    }
    shared.permits.want();
    let mut reserved = HashMap::with_capacity(lanes.len());
    for LaneDepth { lane, claimable, .. } in lanes {
        let purpose = if lane.express { Purpose::First } else { Purpose::PerhapsRetry };
        let limit = usize::try_from(claimable.max(1)).unwrap_or(usize::MAX);
        let permits = shared.permits.take_up_to(limit, &lane.upstream, purpose);
        if !permits.is_empty() {
            reserved.insert(lane, permits);
        }
    }
    reserved
}

/// Begins what was claimed of one lane and gives back the permits that it left over.
fn begin(
    shared: &Arc<Shared>,
    claimed: Claimed,
    reserved: &mut HashMap<Lane, Vec<Permit>>,
) -> usize {
    let mut permits = reserved.remove(&claimed.lane).unwrap_or_default();
    let began = claimed.leased.len();
    for leased in claimed.leased {
        let mut permit = permits.pop();
        if let Some(permit) = permit.as_mut().filter(|_| leased.counts.attempts <= 1) {
            permit.is_first_attempt();
        }
        executor::start(shared, leased, permit);
    }
    began
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(queue: &str, express: bool, due: Option<i64>) -> LaneDepth {
        let lane = Lane { queue: queue.into(), upstream: "u".into(), express, quarantine: false };
        LaneDepth { lane, depth: 1, claimable: 1, oldest_due: due.map(Timestamp::from_micros) }
    }

    #[test]
    fn who_is_waited_for_goes_first_and_then_who_is_due_longest() {
        let lanes = vec![
            lane("late", false, Some(3)),
            lane("not yet", false, Some(11)),
            lane("early", false, Some(1)),
            lane("on the line", true, Some(9)),
            lane("empty", true, None),
        ];
        let turns = by_turn(lanes, Timestamp::from_micros(10));
        let queues: Vec<&str> = turns.iter().map(|depth| &*depth.lane.queue).collect();
        assert_eq!(queues, ["on the line", "early", "late"]);
    }
}
