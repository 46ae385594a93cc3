//! The dispatcher: claims operations when slots are free.
//!
//! Owns the order of lanes: first those whose client waits for the response, then the most urgent,
//! by the priority of the queue and the age of its oldest operation. Its invariant: it never claims
//! more than it has permits for. It must not know what an attempt does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::loops::EngineLoop;
use super::permits::{Permit, PermitPurpose, PermitRefusal, Permits};
use super::{EngineContext, executor};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::urgency::{Precedence, QueueTarget};
use cloakroom_ledger::{Claimed, LaneDepth, LedgerError, Want};

/// How soon a claim is tried again that failed, or brought nothing where something
/// seemed due.
const BACK_OFF: Duration = Duration::from_secs(1);
/// The longest without a look at the lanes, so that a loop that hangs can be told.
const IDLE: Duration = Duration::from_secs(10);

/// Claims until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    let mut precedence = Precedence::default();
    while !engine.tasks.is_draining() {
        let now = engine.clock.now();
        let wake = match step(&engine, &mut precedence, now).await {
            Ok(wake) => wake.unwrap_or(now + IDLE).min(now + IDLE),
            Err(error) => {
                tracing::warn!(%error, "claiming failed; trying again in a second");
                engine.pause(BACK_OFF).await;
                continue;
            }
        };
        engine.loop_health.succeeded(EngineLoop::Dispatcher, now);
        if wake <= now {
            continue;
        }
        tokio::select! {
            () = engine.tasks.draining() => return,
            () = engine.ledger.work_came() => {}
            () = engine.permits.freed() => {}
            () = engine.clock.sleep_until(wake) => {}
        }
    }
}

/// Claims once what is due and can be begun. Returns when to look again by itself, if
/// that is known; `now` where there may be more at once.
async fn step(
    engine: &Arc<EngineContext>,
    precedence: &mut Precedence,
    now: Timestamp,
) -> Result<Option<Timestamp>, LedgerError> {
    let _claiming = engine.in_flight.begin_claim();
    if engine.tasks.is_draining() || !engine.node_lease.may_begin() {
        return Ok(None);
    }
    let mut lanes = engine.ledger.lanes();
    lanes.retain(|depth| depth.oldest_due.is_some() && engine.is_claimed(&depth.lane));
    let next = lanes.iter().filter_map(|depth| depth.oldest_due).filter(|due| *due > now).min();
    let turns = by_urgency(lanes, now, |queue| engine.expected(queue));
    let LaneReservations { mut permits, again } = reserve(engine, turns, precedence, now);
    let next = next.into_iter().chain(again).min();
    if permits.is_empty() {
        return Ok(next);
    }
    let wants = permits
        .iter()
        .map(|(lane, permits)| Want { lane: lane.clone(), limit: permits.len() })
        .collect();
    let claimed = engine.ledger.claim(wants, now).await?;
    let began: usize = claimed.into_iter().map(|it| begin(engine, it, &mut permits)).sum();
    let again = if began > 0 { now } else { now + BACK_OFF };
    Ok(Some(next.map_or(again, |next| next.min(again))))
}

/// The lanes with due operations, the most urgent first.
fn by_urgency(
    lanes: Vec<LaneDepth>,
    now: Timestamp,
    expected: impl Fn(&str) -> QueueTarget,
) -> Vec<LaneDepth> {
    let weighed = |depth: LaneDepth| {
        let due = depth.oldest_due.filter(|due| *due <= now)?;
        let urgency = expected(&depth.lane.queue).urgency(now.since(due));
        Some((urgency, due, depth))
    };
    let mut turns: Vec<_> = lanes.into_iter().filter_map(weighed).collect();
    turns.sort_by(|(urgency, due, depth), (other, other_due, other_depth)| {
        let waited_for = other_depth.lane.express.cmp(&depth.lane.express);
        waited_for.then(other.total_cmp(urgency)).then(due.cmp(other_due))
    });
    turns.into_iter().map(|(_, _, depth)| depth).collect()
}

/// What was reserved before a claim.
struct LaneReservations {
    permits: HashMap<Lane, Vec<Permit>>,
    /// When a rate or a breaker lets more begin.
    again: Option<Timestamp>,
}

/// Permits for as much of each lane as can be begun now.
fn reserve(
    engine: &EngineContext,
    lanes: Vec<LaneDepth>,
    precedence: &mut Precedence,
    now: Timestamp,
) -> LaneReservations {
    let mut reserved =
        LaneReservations { permits: HashMap::with_capacity(lanes.len()), again: None };
    if lanes.is_empty() {
        engine.permits.expect_no_release();
        return reserved;
    }
    engine.permits.expect_release();
    precedence.note(engine.permits.express_permits());
    if let Some((lane, permit)) = overdue(&engine.permits, &lanes, precedence, now) {
        precedence.had_turn(&lane, now);
        reserved.permits.insert(lane, vec![permit]);
    }
    for LaneDepth { lane, claimable, .. } in lanes {
        let purpose = if lane.express { PermitPurpose::Express } else { PermitPurpose::Claim };
        let limit = usize::try_from(claimable.max(1)).unwrap_or(usize::MAX);
        let (permits, refusal) = engine.permits.take_up_to(limit, &lane, purpose, now);
        if let Some(PermitRefusal::Until(then)) = refusal {
            reserved.again = Some(reserved.again.map_or(then, |again| again.min(then)));
        }
        if !permits.is_empty() {
            reserved.permits.entry(lane).or_default().extend(permits);
        }
    }
    reserved
}

/// A permit for the first lane whose oldest has waited for too long behind those that clients
/// wait for, if there is one. Where it is refused because all are taken, the next one is its own.
fn overdue(
    permits: &Permits,
    lanes: &[LaneDepth],
    precedence: &Precedence,
    now: Timestamp,
) -> Option<(Lane, Permit)> {
    let age = |depth: &LaneDepth| depth.oldest_due.map_or(Duration::ZERO, |due| now.since(due));
    let waits =
        |depth: &&LaneDepth| !depth.lane.express && precedence.is_due(&depth.lane, age(depth), now);
    lanes.iter().filter(waits).find_map(|depth| {
        let permit = permits.take(&depth.lane, PermitPurpose::Overdue, now).ok()?;
        Some((depth.lane.clone(), permit))
    })
}

/// Begins what was claimed of one lane and gives back the permits that it left over.
fn begin(
    engine: &Arc<EngineContext>,
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
        executor::start(engine, leased, permit);
    }
    began
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(queue: &str, express: bool, due: Option<u64>) -> LaneDepth {
        let lane = Lane { queue: queue.into(), upstream: "u".into(), express, quarantine: false };
        let oldest_due = due.map(|seconds| Timestamp::EPOCH + Duration::from_secs(seconds));
        LaneDepth { lane, depth: 1, claimable: 1, oldest_due, stored: 0 }
    }

    fn served(lanes: Vec<LaneDepth>) -> Vec<String> {
        let expected = |queue: &str| match queue {
            "urgent" => QueueTarget { priority: 10, target_wait: Duration::from_secs(1) },
            _ => QueueTarget::default(),
        };
        let turns = by_urgency(lanes, Timestamp::EPOCH + Duration::from_secs(1000), expected);
        turns.into_iter().map(|depth| depth.lane.queue.to_string()).collect()
    }

    #[test]
    fn who_is_waited_for_goes_first_and_then_who_is_due_longest() {
        let lanes = vec![
            lane("late", false, Some(3)),
            lane("not yet", false, Some(1001)),
            lane("early", false, Some(1)),
            lane("on the line", true, Some(999)),
            lane("empty", true, None),
        ];
        assert_eq!(served(lanes), ["on the line", "early", "late"]);
    }

    #[test]
    fn priority_goes_before_age_until_somebody_has_waited_too_long() {
        let two =
            |plain| vec![lane("plain", false, Some(plain)), lane("urgent", false, Some(1000))];
        assert_eq!(served(two(500)), ["urgent", "plain"]);
        assert_eq!(served(two(300)), ["plain", "urgent"]);
    }
}
