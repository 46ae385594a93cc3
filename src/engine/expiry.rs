//! Expiry: operations whose deadline passes before they start.
//!
//! Owns their end in lanes that do not move: in a paused queue, for an upstream that is down or no
//! longer configured, behind a limit, or behind more urgent lanes. All other operations meet their
//! deadline when they start. Its invariant: it walks a lane once, in small steps, and writes only
//! operations past their deadline. What a walk sees of deadlines that come soon is remembered, so that
//! those end in time however long the pause before the next walk is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::EngineContext;
use super::loops::EngineLoop;
use super::settle::{self, AttemptResult};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::{Lane, Outcome};
use cloakroom_ledger::{Deadline, LaneDepth, LanePlace, LedgerError, Overdue};

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

/// The most deadlines that are remembered of one lane, the first to come.
const REMEMBERED: usize = 16 * 1024;

/// What the last walk through each lane has left.
type LastWalks = HashMap<Lane, LastWalk>;

/// What the last walk through a lane has left.
#[derive(Debug, Default)]
struct LastWalk {
    /// When the lane may be walked again, where that is not at once.
    again: Timestamp,
    /// Deadlines that were to come, the latest first.
    to_come: Vec<Deadline>,
}

impl LastWalk {
    fn of(mut to_come: Vec<Deadline>, again: Timestamp) -> Self {
        to_come.sort_unstable();
        to_come.truncate(REMEMBERED);
        to_come.reverse();
        Self { again, to_come }
    }

    /// Takes out the next deadlines that have come by now.
    fn passed(&mut self, now: Timestamp) -> Vec<Deadline> {
        let begin = self.to_come.partition_point(|deadline| deadline.at > now);
        let begin = begin.max(self.to_come.len().saturating_sub(BATCH));
        self.to_come.split_off(begin)
    }
}

/// Looks every second until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    let mut walks = LastWalks::new();
    loop {
        match step(&engine, &mut walks).await {
            Ok(()) => engine.loop_health.succeeded(EngineLoop::Expiry, engine.clock.now()),
            Err(error) => tracing::warn!(%error, "expiring operations failed; trying again soon"),
        }
        if !engine.pause(INTERVAL).await {
            return;
        }
    }
}

/// Ends all that is past its deadline in lanes that do not move.
async fn step(engine: &EngineContext, walks: &mut LastWalks) -> Result<(), LedgerError> {
    if engine.is_unsure_of_time() {
        return Ok(());
    }
    let now = engine.clock.now();
    expire_behind_keys(engine).await?;
    let stuck: Vec<_> = engine.ledger.lanes().into_iter().filter(|it| is_stuck(it, now)).collect();
    walks.retain(|lane, _| stuck.iter().any(|it| it.lane == *lane));
    for LaneDepth { lane, .. } in stuck {
        match walks.get_mut(&lane) {
            Some(walk) if walk.again > now => expire_passed(engine, &lane, walk).await?,
            _ => {
                let walk = expire(engine, &lane).await?;
                walks.insert(lane, walk);
            }
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

/// Ends what has passed its deadline since the last walk through its lane.
async fn expire_passed(
    engine: &EngineContext,
    lane: &Lane,
    walk: &mut LastWalk,
) -> Result<(), LedgerError> {
    let _claiming = engine.in_flight.begin_claim();
    while !engine.tasks.is_draining() {
        let now = engine.clock.now();
        let passed = walk.passed(now);
        if passed.is_empty() {
            break;
        }
        end(engine, lane, Overdue::of(&passed), now).await?;
    }
    Ok(())
}

/// Ends what is past its deadline in one lane, and remembers what comes soon.
async fn expire(engine: &EngineContext, lane: &Lane) -> Result<LastWalk, LedgerError> {
    let _claiming = engine.in_flight.begin_claim();
    let (began, mut from) = (engine.clock.now(), Some(LanePlace::START));
    let begun = engine.clock.elapsed();
    let mut to_come = Vec::new();
    while let Some(place) = from {
        if engine.tasks.is_draining() {
            return Ok(LastWalk::of(to_come, began));
        }
        let mut overdue = engine.ledger.overdue(lane, place, BATCH, began).await?;
        from = overdue.next;
        to_come.append(&mut overdue.soon);
        if to_come.len() > 2 * REMEMBERED {
            to_come.sort_unstable();
            to_come.truncate(REMEMBERED);
        }
        if !overdue.is_empty() {
            end(engine, lane, overdue, began).await?;
        }
    }
    let took = engine.clock.elapsed().saturating_sub(begun);
    let again = engine.clock.now() + (took * SPARING.0).min(SPARING.1);
    Ok(LastWalk::of(to_come, again))
}

/// Ends these, as far as they still lie in the lane.
async fn end(
    engine: &EngineContext,
    lane: &Lane,
    overdue: Overdue,
    now: Timestamp,
) -> Result<(), LedgerError> {
    // Where others share the ledger, one of them may know what this node does not.
    let configured = engine.permits.knows(&lane.upstream) || engine.ledger.is_shared();
    let outcome = if configured { Outcome::Expired } else { Outcome::Unroutable };
    let leased = engine.ledger.claim_expired(lane.clone(), overdue, now).await?;
    let end = |it| settle::commit(engine, it, AttemptResult::of(outcome.clone()));
    join_all(leased.iter().map(end)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_a_walk_has_seen_pass_in_their_order_and_in_small_steps() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let count = 2 * i64::try_from(BATCH).unwrap();
        // A lane is in the order in which its operations are due.
        let seen = (1..=count).map(|number| Deadline::new(at(number * 7919 % count), number));
        let mut walk = LastWalk::of(seen.collect(), at(0));
        assert!(walk.passed(at(-1)).is_empty());
        let (begin, end) = (walk.passed(at(9)), walk.passed(at(9)));
        assert_eq!((begin.len(), end.len()), (10, 0));
        assert!(begin.iter().all(|deadline| deadline.at <= at(9)));
        let (begin, end) = (walk.passed(at(count)), walk.passed(at(count)));
        assert_eq!((begin.len(), end.len()), (BATCH, BATCH - 10));
        assert!(begin.iter().map(|it| it.at).max() < end.iter().map(|it| it.at).min());
    }

    #[test]
    fn of_more_deadlines_than_are_remembered_the_first_to_come_are() {
        let most = i64::try_from(REMEMBERED).unwrap();
        let seen = (0..most + 9).rev();
        let seen = seen.map(|number| Deadline::new(Timestamp::from_micros(number), number));
        let walk = LastWalk::of(seen.collect(), Timestamp::EPOCH);
        assert_eq!(walk.to_come.len(), REMEMBERED);
        assert_eq!(walk.to_come[0].at, Timestamp::from_micros(most - 1));
    }

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
