//! Ownership of receivers among several nodes.
//!
//! Owns the list of sending nodes and the takeover of stuck receivers. Its invariant: a node leaves
//! a receiver to its owner, unless the due deliveries of the receiver have not moved for a whole
//! lease. A wrong view only gives a receiver more concurrency for a while: each delivery is still
//! claimed once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DeliveryTransport, WebhookState};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::{ReceiverKey, owner_of};
use cloakroom_ledger::{DeliveryLane, LedgerError, NodeRow};

/// This node's view of the other nodes.
#[derive(Debug, Default)]
pub(super) struct Ownership(Mutex<KnownNodes>);

#[derive(Debug, Default)]
struct KnownNodes {
    /// The nodes that send; empty before the first look.
    nodes: Vec<i64>,
    passed: HashMap<DeliveryLane, SkippedLane>,
}

/// A lane that was left to its owner.
#[derive(Clone, Copy, Debug)]
struct SkippedLane {
    /// The due time of its oldest delivery.
    due: Timestamp,
    /// When this due time was seen first.
    since: Timestamp,
    seen_at: Timestamp,
}

impl Ownership {
    fn known(&self) -> MutexGuard<'_, KnownNodes> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownNodes {
    fn is_own(&self, receiver: ReceiverKey, own: i64) -> bool {
        owner_of(receiver, &self.nodes).is_none_or(|home| home == own)
    }

    /// Whether a lane of another node's has not moved for a whole lease.
    fn is_stuck(
        &mut self,
        lane: DeliveryLane,
        due: Timestamp,
        lease: Duration,
        now: Timestamp,
    ) -> bool {
        let passed =
            self.passed.entry(lane).or_insert(SkippedLane { due, since: now, seen_at: now });
        let adopted = now.since(passed.since) >= lease;
        let old = now.since(due) >= lease;
        // Once it was found stuck, it is served until nothing old is left in it.
        if passed.due != due && !(adopted && old) {
            (passed.due, passed.since) = (due, now);
            return false;
        }
        (passed.due, passed.seen_at) = (due, now);
        adopted && old
    }
}

/// Whether a receiver's deliveries are this node's to send.
pub(super) fn is_own<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    receiver: ReceiverKey,
) -> bool {
    !shared.ledger.is_shared()
        || shared.ownership.known().is_own(receiver, shared.ledger.incarnation())
}

/// The lanes that this node serves of those of which something is due.
pub(super) fn served<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    now: Timestamp,
) -> Vec<DeliveryLane> {
    let mut lanes = shared.ledger.due_deliveries(now);
    if !shared.ledger.is_shared() {
        return lanes;
    }
    let (own, lease) = (shared.ledger.incarnation(), shared.settings.lease);
    let mut known = shared.ownership.known();
    lanes.retain(|lane| {
        if known.is_own(lane.receiver, own) {
            return true;
        }
        let Some(due) = shared.ledger.delivery_due_since(*lane) else { return false };
        let stuck = known.is_stuck(*lane, due, lease, now);
        if !stuck {
            // The next look says how its home gets on.
            shared.ledger.pass_over(*lane);
        }
        stuck
    });
    known.passed.retain(|_, passed| now.since(passed.seen_at) < lease * 2);
    lanes
}

/// Reads the nodes that send from the ledger.
pub(super) async fn look<S: DeliveryTransport>(
    shared: &WebhookState<S>,
) -> Result<(), LedgerError> {
    if !shared.ledger.is_shared() {
        return Ok(());
    }
    let now = shared.clock.now();
    let own = shared.ledger.incarnation();
    let nodes = shared.ledger.nodes().await?;
    let mut nodes: Vec<i64> =
        nodes.iter().filter(|node| sends(node, now)).map(|node| node.incarnation).collect();
    if !nodes.contains(&own) {
        nodes.push(own);
    }
    shared.ownership.known().nodes = nodes;
    Ok(())
}

fn sends(node: &NodeRow, now: Timestamp) -> bool {
    let alive = now.since(node.beat_at) < node.vitals.lease;
    node.ended_at.is_none() && alive && node.vitals.role.works()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn what_moves_is_left_to_its_home_and_what_does_not_for_a_lease_is_served_by_anybody() {
        let mut known = KnownNodes::default();
        let lane = DeliveryLane { receiver: ReceiverKey(1), again: false };
        for second in 0..60 {
            // Its home works off a long backlog.
            assert!(!known.is_stuck(lane, at(second), LEASE, at(100 + second)));
        }
        for second in 60..75 {
            assert!(!known.is_stuck(lane, at(60), LEASE, at(100 + second)));
        }
        assert!(known.is_stuck(lane, at(60), LEASE, at(175)));
        assert!(known.is_stuck(lane, at(61), LEASE, at(176)));
        assert!(!known.is_stuck(lane, at(170), LEASE, at(177)));
    }

    #[test]
    fn before_anybody_has_looked_everything_is_at_home_here() {
        assert!(KnownNodes::default().is_own(ReceiverKey(1), 7));
        let two = KnownNodes { nodes: vec![7, 8], ..KnownNodes::default() };
        let own = (0..100).filter(|receiver| two.is_own(ReceiverKey(*receiver), 7)).count();
        assert!((20..80).contains(&own), "{own}");
    }
}
