//! This node's leases of the limits that nodes share.
//!
//! Owns when the node asks for more and gives back: at its start; with each heartbeat while other
//! nodes are there; when this node runs short of something that others may have; and when others
//! want what it has. It rarely asks more than ten times a second, and a node that is alone asks
//! once. Its invariant: the node uses only what the ledger granted, and stops using what it gave
//! back. It must not know how a limit is divided.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::EngineContext;
use super::heartbeat::{self, HeartbeatReport};
use cloakroom_domain::fleet::BEATS_A_LEASE;
use cloakroom_ledger::{Divided, LedgerError};

/// The least time between two requests.
const SPARING: Duration = Duration::from_millis(100);

/// When to ask next, after the last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RenewalPlan {
    /// How soon to ask again by itself, if at all before the next beat.
    again: Option<Duration>,
    /// More is held than may be used: it is given back as it becomes free.
    is_over_limit: bool,
}

impl RenewalPlan {
    /// The next plan after these shares, where this plan has not changed since.
    /// While others owe the node something, it asks less and less often.
    fn after(self, divided: &[Divided], longest: Duration) -> Self {
        let mut shares = divided.iter().map(|divided| divided.share);
        let is_over_limit = shares.clone().any(|share| share.holds > share.may);
        let owed = shares.any(|share| share.owed);
        let again = (is_over_limit || owed).then(|| match self.again {
            Some(before) => (before * 2).min(longest),
            None => SPARING,
        });
        Self { again, is_over_limit }
    }
}

/// Asks whenever there is a reason to, until nothing runs here any more.
pub(super) async fn run(engine: Arc<EngineContext>, mut beaten: watch::Receiver<HeartbeatReport>) {
    let longest = engine.settings.node.lease / BEATS_A_LEASE;
    let (mut plan, mut is_first) = (RenewalPlan::default(), true);
    loop {
        match ask(&engine, is_first, plan, longest).await {
            Ok(after) => (plan, is_first) = (after, false),
            Err(error) => {
                tracing::debug!(%error, "could not renew this node's part of the limits; trying again");
                plan.again = Some(longest);
            }
        }
        tokio::select! {
            () = heartbeat::work_ended(&engine) => return,
            () = engine.clock.sleep(SPARING) => {}
        }
        tokio::select! {
            () = heartbeat::work_ended(&engine) => return,
            heard = reason(&engine, &mut beaten, plan) => if heard { plan.again = None },
        }
    }
}

/// Completes when there is a reason to ask. Whether it is news.
async fn reason(
    engine: &EngineContext,
    beaten: &mut watch::Receiver<HeartbeatReport>,
    plan: RenewalPlan,
) -> bool {
    let by_itself = async {
        match plan.again {
            Some(again) => engine.clock.sleep(again.saturating_sub(SPARING)).await,
            None => std::future::pending().await,
        }
    };
    let beat = async {
        while beaten.changed().await.is_ok() {
            let has_peers = beaten.borrow_and_update().has_peers;
            if has_peers || plan.is_over_limit || !engine.permits.is_whole() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let short = async {
        engine.permits.short().await;
        // It may have been before the last answer.
        while engine.permits.is_whole() {
            engine.permits.short().await;
        }
    };
    tokio::select! {
        () = by_itself => false,
        () = beat => true,
        () = short => true,
        () = engine.ledger.permits_stirred() => true,
    }
}

/// Asks once, and takes what is granted.
async fn ask(
    engine: &EngineContext,
    is_first: bool,
    plan: RenewalPlan,
    longest: Duration,
) -> Result<RenewalPlan, LedgerError> {
    let now = engine.clock.now();
    metrics::counter!("cloakroom_permits_asked_total").increment(1);
    let demand = engine.permits.demand(now);
    let divided = engine.ledger.divide(demand.asked.clone(), now).await?;
    // After it was granted: who has left since says so first.
    let emptied = if is_first { Some(engine.ledger.emptied(now).await?) } else { None };
    engine.permits.grant(&demand, &divided, emptied.as_ref(), engine.clock.now());
    Ok(plan.after(&divided, longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;
    use cloakroom_domain::fair_share::{FairShare, LimitKind};
    use cloakroom_ledger::LimitName;

    const LONGEST: Duration = Duration::from_secs(3);

    fn divided(may: u64, holds: u64, owed: bool) -> [Divided; 1] {
        let since = Timestamp::EPOCH;
        let share = FairShare { limit: 9, may, holds, since, owed, stirs: false, alone: false };
        [Divided { of: LimitName { kind: LimitKind::QueueInFlight, name: "q".into() }, share }]
    }

    #[test]
    fn who_is_owed_asks_again_soon_and_then_ever_more_seldom() {
        let mut plan = RenewalPlan::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            plan = plan.after(&divided(1, 1, true), LONGEST);
            pauses.push(plan.again.unwrap().as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3000, 3000]);
        assert_eq!(plan.after(&divided(9, 9, false), LONGEST), RenewalPlan::default());
    }

    #[test]
    fn who_holds_more_than_it_may_use_comes_back_to_give_it() {
        let plan = RenewalPlan::default().after(&divided(1, 2, false), LONGEST);
        assert!(plan.is_over_limit && plan.again == Some(SPARING));
    }
}
