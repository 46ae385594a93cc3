//! Whether this node may begin anything.
//!
//! Owns when its last confirmed beat was sent. Where others share the ledger, a node that
//! has had none for two thirds of its lease begins nothing: in the last third nobody takes
//! over yet what it holds. Its invariant: a beat counts from when it was sent, by monotonic
//! time, so that a node that stood still knows it as soon as it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom_domain::fleet::trust;
use cloakroom_runtime::clock::Clock;

/// The last confirmed beat. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct NodeLease {
    clock: Clock,
    /// How long a confirmed beat is good for; none where nobody else can take over.
    good_for: Option<Duration>,
    confirmed: Arc<AtomicU64>,
}

impl NodeLease {
    /// The registration counts as a beat.
    pub(super) fn starting(clock: &Clock, lease: Duration, is_shared: bool) -> Self {
        let node_lease = Self {
            clock: clock.clone(),
            good_for: is_shared.then(|| trust(lease)),
            confirmed: Arc::default(),
        };
        node_lease.confirm(clock.elapsed());
        node_lease
    }

    /// A beat that was sent then has reached the ledger.
    pub(super) fn confirm(&self, sent: Duration) {
        self.confirmed.store(sent.as_micros() as u64, Ordering::SeqCst);
    }

    /// How long ago the last confirmed beat was sent.
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
