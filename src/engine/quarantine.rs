//! Operations that run alone, because nodes have died while they carried them out.
//!
//! Owns one slot of this node, beside all others. Its invariant: one operation at a time is
//! in it, so that a node that dies of it tells which one it was.

use std::sync::Arc;
use std::time::Duration;

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
    let lanes = shared.ledger.lanes().into_iter();
    let Some(lane) = next(lanes.filter(|depth| shared.is_served(&depth.lane)), now) else {
        return Ok(false);
    };
    if !shared.pulse.may_begin() {
        return Ok(false);
    }
    let mut any = false;
    for claimed in shared.ledger.claim(vec![Want { lane, limit: 1 }], now).await? {
        for leased in claimed.leased {
            tracing::info!(operation = %leased.id, rescues = leased.counts.rescues, "runs alone");
            any = true;
            executor::alone(shared, leased).await;
        }
    }
    Ok(any)
}

/// The quarantine whose oldest has been due longest.
fn next(lanes: impl Iterator<Item = LaneDepth>, now: Timestamp) -> Option<Lane> {
    let due = |depth: &LaneDepth| depth.oldest_due.filter(|due| *due <= now);
    let lanes = lanes.filter(|depth| depth.lane.quarantine && due(depth).is_some());
    lanes.min_by_key(|depth| depth.oldest_due).map(|depth| depth.lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_quarantines_the_one_that_is_due_longest_is_next() {
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
        let now = Timestamp::from_micros(10);
        assert_eq!(&*next(lanes.into_iter(), now).unwrap().queue, "early");
        assert!(next([lane("not yet", true, Some(11))].into_iter(), now).is_none());
    }
}
