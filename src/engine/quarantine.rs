//! Operations that run alone, because nodes have died while they carried them out.
//!
//! Owns one slot of this node, beside all others; limits of upstreams and queues hold for it
//! too. Its invariant: one operation at a time is in it, so that a node that dies of it tells
//! which one it was.

use std::sync::Arc;
use std::time::Duration;

use super::permits::Purpose;
use super::{Shared, executor};
use crate::domain::Timestamp;
use crate::domain::operation::Lane;
use crate::ledger::{LaneDepth, LedgerError, Want};

/// How often it is looked whether one is due.
const INTERVAL: Duration = Duration::from_secs(1);

/// Carries out one after the other until the tasks drain.
pub(super) async fn run(shared: Arc<Shared>) {
    while !shared.tasks.is_draining() {
        match step(&shared).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "nothing could be taken into quarantine; trying again soon");
            }
        }
        shared.pause(INTERVAL).await;
    }
}

/// Carries one out, if one is due and may begin; whether there was one.
async fn step(shared: &Arc<Shared>) -> Result<bool, LedgerError> {
    let now = shared.clock.now();
    shared.permits.keep_nothing();
    let _asked = shared.holdings.ask();
    if shared.tasks.is_draining() || !shared.pulse.may_begin() {
        return Ok(false);
    }
    let lanes = shared.ledger.lanes().into_iter();
    let due = due(lanes.filter(|depth| shared.is_served(&depth.lane)), now);
    let permit = |lane: Lane| {
        shared.permits.take(&lane, Purpose::Alone, now).ok().map(|permit| (lane, permit))
    };
    let Some((lane, permit)) = due.into_iter().find_map(permit) else { return Ok(false) };
    let (mut any, mut permit) = (false, Some(permit));
    for claimed in shared.ledger.claim(vec![Want { lane, limit: 1 }], now).await? {
        for leased in claimed.leased {
            tracing::info!(operation = %leased.id, rescues = leased.counts.rescues, "runs alone");
            any = true;
            if let Some(permit) = permit.take() {
                executor::alone(shared, leased, permit).await;
            }
        }
    }
    Ok(any)
}

/// The quarantines in which somebody is due, longest first.
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
    use super::*;

    #[test]
    fn of_all_quarantines_the_one_that_is_due_longest_comes_first() {
        let lane = |queue: &str, quarantine, due: Option<i64>| LaneDepth {
            lane: Lane { queue: queue.into(), upstream: "u".into(), express: false, quarantine },
            depth: 1,
            claimable: 1,
            oldest_due: due.map(Timestamp::from_micros),
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
