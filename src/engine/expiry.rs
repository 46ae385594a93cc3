//! Expiry: operations whose deadline passes before they start.
//!
//! Owns their end in lanes that do not move: in a paused queue, for an upstream that is down or no
//! longer configured, behind a limit, or behind more urgent lanes. All other operations meet their
//! deadline when they start. Its invariant: it walks a lane once, in small steps, and writes only
//! operations past their deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::EngineContext;
use super::loops::EngineLoop;
use super::settle::{self, AttemptResult};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{Lane, Outcome};
use cloakroom_ledger::{LaneDepth, LanePlace, LedgerError};

/// No operation ends later than this after its deadline, unless its lane was just looked through.
const INTERVAL: Duration = Duration::from_secs(1);
/// A lane whose oldest has been due for this long may hold what is past its deadline: no client can
/// ask for a shorter one.
const STUCK: Duration = Duration::from_secs(1);
/// How long what is about to be ended is hidden from the next look.
const HIDDEN: Duration = Duration::from_mins(2);
/// How many are looked at, and ended, together.
const BATCH: usize = 256;
/// A look walks the whole lane once. It is not repeated before this many times as long as it
/// took, or a minute.
const SPARING: (u32, Duration) = (50, Duration::from_mins(1));

/// When each lane may be searched again, where that is not at once.
type NextLooks = HashMap<Lane, Timestamp>;

/// Looks every second until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    let mut next_looks = NextLooks::new();
    loop {
        match step(&engine, &mut next_looks).await {
            Ok(()) => engine.loop_health.succeeded(EngineLoop::Expiry, engine.clock.now()),
            Err(error) => tracing::warn!(%error, "expiring operations failed; trying again soon"),
        }
        if !engine.pause(INTERVAL).await {
            return;
        }
    }
}

/// Ends all that is past its deadline in lanes that do not move.
async fn step(engine: &EngineContext, next_looks: &mut NextLooks) -> Result<(), LedgerError> {
    if engine.is_unsure_of_time() {
        return Ok(());
    }
    let now = engine.clock.now();
    next_looks.retain(|_, again| *again > now);
    expire_behind_keys(engine).await?;
    for depth in engine.ledger.lanes() {
        if is_stuck(&depth, now) && !next_looks.contains_key(&depth.lane) {
            let again = expire(engine, &depth.lane).await?;
            next_looks.insert(depth.lane, again);
        }
    }
    Ok(())
}

fn is_stuck(depth: &LaneDepth, now: Timestamp) -> bool {
    depth.depth > 0 && depth.oldest_due.is_some_and(|due| now.since(due) >= STUCK)
}

/// Ends what waits for a serial key past its deadline, also where the key is blocked.
async fn expire_behind_keys(engine: &EngineContext) -> Result<(), LedgerError> {
    while !engine.tasks.is_draining() {
        let now = engine.clock.now();
        let overdue = engine.ledger.claim_overdue(BATCH, now, now + HIDDEN).await?;
        if overdue.is_empty() {
            break;
        }
        let end = |it| settle::commit(engine, it, AttemptResult::of(Outcome::Expired));
        join_all(overdue.iter().map(end)).await;
    }
    Ok(())
}

/// Ends what is past its deadline in one lane; says when to look into it again.
async fn expire(engine: &EngineContext, lane: &Lane) -> Result<Timestamp, LedgerError> {
    // Where others share the ledger, one of them may know what this node does not.
    let configured = engine.permits.knows(&lane.upstream) || engine.ledger.is_shared();
    let outcome = if configured { Outcome::Expired } else { Outcome::Unroutable };
    let _claiming = engine.in_flight.begin_claim();
    let (began, mut from) = (engine.clock.now(), Some(LanePlace::START));
    while let Some(place) = from {
        if engine.tasks.is_draining() {
            return Ok(began);
        }
        let overdue = engine.ledger.overdue(lane, place, BATCH, began).await?;
        from = overdue.next;
        if overdue.is_empty() {
            continue;
        }
        let leased = engine.ledger.claim_expired(lane.clone(), overdue, began).await?;
        let ends =
            leased.iter().map(|it| settle::commit(engine, it, AttemptResult::of(outcome.clone())));
        join_all(ends).await;
    }
    let now = engine.clock.now();
    Ok(now + (now.since(began) * SPARING.0).min(SPARING.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_stuck_when_its_oldest_has_been_due_for_a_while() {
        let now = Timestamp::EPOCH + STUCK;
        let lane =
            Lane { queue: "q".into(), upstream: "u".into(), express: false, quarantine: false };
        let with = |depth, oldest_due| LaneDepth {
            lane: lane.clone(),
            depth,
            claimable: depth,
            oldest_due,
            stored: 0,
        };
        assert!(is_stuck(&with(1, Some(Timestamp::EPOCH)), now));
        for (depth, oldest_due) in [(0, Some(Timestamp::EPOCH)), (1, Some(now)), (1, None)] {
            assert!(!is_stuck(&with(depth, oldest_due), now), "{depth} {oldest_due:?}");
        }
    }
}
