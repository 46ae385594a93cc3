//! Quarantine: operations that run alone, because nodes died while running them.
//!
//! Owns one slot of this node beside all others; limits of upstreams and queues apply to it, too. Its
//! invariant: it holds one operation at a time, so that the death of a node tells which operation
//! caused it.

use std::sync::Arc;
use std::time::Duration;

use super::permits::{Permit, PermitPurpose, Permits};
use super::{EngineContext, executor};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Lane;
use cloakroom_ledger::{LaneDepth, LedgerError, Want};

/// How often the lanes are checked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Carries out one after the other until the tasks drain.
pub(super) async fn run(engine: Arc<EngineContext>) {
    while !engine.tasks.is_draining() {
        match step(&engine).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "claiming for quarantine failed; trying again soon");
            }
        }
        engine.pause(INTERVAL).await;
    }
}

/// Carries one out, if one is due and may begin; whether there was one.
async fn step(engine: &Arc<EngineContext>) -> Result<bool, LedgerError> {
    let now = engine.clock.now();
    let _claiming = engine.in_flight.begin_claim();
    if engine.tasks.is_draining() || !engine.node_lease.may_begin() {
        return Ok(false);
    }
    let lanes = engine.ledger.lanes().into_iter();
    let due = due(lanes.filter(|depth| engine.is_served(&depth.lane)), now);
    let Some((lane, permit)) = permit(&engine.permits, due, now) else { return Ok(false) };
    let (mut any, mut permit) = (false, Some(permit));
    for claimed in engine.ledger.claim(vec![Want { lane, limit: 1 }], now).await? {
        for leased in claimed.leased {
            tracing::info!(operation = %leased.id, rescues = leased.counts.rescues, "running an operation alone in quarantine");
            any = true;
            if let Some(permit) = permit.take() {
                executor::run_quarantined(engine, leased, permit).await;
            }
        }
    }
    Ok(any)
}

/// A permit for the first of these lanes that has one. What an earlier look kept is let go, because
/// its lane may be due no more; and where there is a permit, so is what was kept for the lanes
/// before it: they ask again only when this one has ended.
fn permit(permits: &Permits, due: Vec<Lane>, now: Timestamp) -> Option<(Lane, Permit)> {
    permits.release_reserved();
    let take = |lane: Lane| {
        permits.take(&lane, PermitPurpose::Quarantine, now).ok().map(|permit| (lane, permit))
    };
    let taken = due.into_iter().find_map(take)?;
    permits.release_reserved();
    Some(taken)
}

/// The quarantine lanes with due operations, the oldest first.
fn due(lanes: impl Iterator<Item = LaneDepth>, now: Timestamp) -> Vec<Lane> {
    let due = |depth: LaneDepth| {
        let since = depth.oldest_due.filter(|due| depth.lane.quarantine && *due <= now)?;
        Some((since, depth.lane))
    };
    let mut due: Vec<_> = lanes.filter_map(due).collect();
    due.sort();
    due.into_iter().map(|(_, lane)| lane).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::engine::{EngineSettings, UpstreamLimits};

    #[test]
    fn one_that_runs_alone_keeps_nothing_of_another_upstream() {
        let limits = UpstreamLimits { max_in_flight: 1, rate: None, max_response: 1 };
        let upstreams = HashMap::from([("full".into(), limits), ("free".into(), limits)]);
        let settings = EngineSettings { slots: 4, upstreams, ..EngineSettings::default() };
        let permits = Permits::new(&settings, false, Timestamp::EPOCH);
        let lane = |upstream: &str, quarantine| Lane {
            queue: "default".into(),
            upstream: upstream.into(),
            express: false,
            quarantine,
        };
        let take = || permits.take(&lane("full", false), PermitPurpose::Claim, Timestamp::EPOCH);
        let running = take().unwrap();
        let due = vec![lane("full", true), lane("free", true)];
        let (alone, _runs) = permit(&permits, due, Timestamp::EPOCH).unwrap();
        assert_eq!(&*alone.upstream, "free");
        drop(running);
        assert!(take().is_ok(), "the full one has room, and no operation runs alone there");
        let full = take().unwrap();
        assert!(permit(&permits, vec![lane("full", true)], Timestamp::EPOCH).is_none());
        drop(full);
        assert!(take().is_err(), "the next seat is for the one that is to run alone");
        assert!(permit(&permits, Vec::new(), Timestamp::EPOCH).is_none());
        assert!(take().is_ok(), "the one that was to run alone is due no more");
    }

    #[test]
    fn of_all_quarantines_the_one_that_is_due_longest_comes_first() {
        let lane = |queue: &str, quarantine, due: Option<i64>| LaneDepth {
            lane: Lane { queue: queue.into(), upstream: "u".into(), express: false, quarantine },
            depth: 1,
            claimable: 1,
            oldest_due: due.map(Timestamp::from_micros),
            stored: 0,
        };
        let lanes = [
            lane("plain", false, Some(0)),
            lane("late", true, Some(3)),
            lane("early", true, Some(1)),
            lane("empty", true, None),
            lane("not yet", true, Some(11)),
        ];
        let due = due(lanes.into_iter(), Timestamp::from_micros(10));
        let queues: Vec<_> = due.iter().map(|lane| &*lane.queue).collect();
        assert_eq!(queues, ["early", "late"]);
    }
}
