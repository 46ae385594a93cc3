//! The lease of this node: whether it may start an attempt.
//!
//! Owns when the last confirmed heartbeat was sent. Where nodes share the ledger, a node without a
//! confirmed heartbeat for two thirds of its lease starts nothing: during the last third, no other
//! node takes its work over yet. Its invariant: a heartbeat counts from when it was sent, in
//! monotonic time, so that a node that was suspended notices as soon as it runs again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom_domain::fleet::trust;
use cloakroom_runtime::clock::Clock;

/// The last confirmed heartbeat. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct NodeLease {
    clock: Clock,
    /// How long a confirmed heartbeat is valid; none where no other node can take over.
    good_for: Option<Duration>,
    confirmed: Arc<AtomicU64>,
}

impl NodeLease {
    /// The registration of the node counts as a heartbeat.
    pub(super) fn starting(clock: &Clock, lease: Duration, is_shared: bool) -> Self {
        let node_lease = Self {
            clock: clock.clone(),
            good_for: is_shared.then(|| trust(lease)),
            confirmed: Arc::default(),
        };
        node_lease.confirm(clock.elapsed());
        node_lease
    }

    /// Records that a heartbeat sent at `sent` has reached the ledger.
    pub(super) fn confirm(&self, sent: Duration) {
        self.confirmed.store(sent.as_micros() as u64, Ordering::SeqCst);
    }

    /// The age of the last confirmed heartbeat.
    pub(super) fn age(&self) -> Duration {
        let confirmed = Duration::from_micros(self.confirmed.load(Ordering::SeqCst));
        self.clock.elapsed().saturating_sub(confirmed)
    }

    /// Whether an attempt may begin now.
    pub(super) fn may_begin(&self) -> bool {
        self.good_for.is_none_or(|good_for| self.age() < good_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;

    #[test]
    fn without_a_confirmed_beat_for_two_thirds_of_a_lease_nothing_begins() {
        let clock = Clock::manual(Timestamp::EPOCH);
        let lease = Duration::from_secs(15);
        let (alone, engine) =
            (NodeLease::starting(&clock, lease, false), NodeLease::starting(&clock, lease, true));
        clock.advance(Duration::from_secs(9));
        assert!(engine.may_begin());
        let sent = clock.elapsed();
        clock.advance(Duration::from_secs(1));
        assert!(!engine.may_begin() && alone.may_begin());
        engine.confirm(sent);
        assert!(engine.may_begin());
    }
}
