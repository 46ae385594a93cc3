//! The leases that this node really has, compared with those the ledger assigns to it.
//!
//! Its invariants: a lease is started once or disowned, never both; and a lease that was started but
//! not settled is told from one that never started, because its request may have been sent. A node
//! without leases and without pending claims can leave the cluster and leaves nothing behind.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use cloakroom_ledger::{LeaseKey, Owned};

/// How many are remembered that were disowned.
const REMEMBERED: usize = 4096;

/// The leases of this node. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlightLeases(Arc<InFlightInner>);

#[derive(Debug, Default)]
struct InFlightInner {
    table: Mutex<LeaseTable>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct LeaseTable {
    held: HashSet<LeaseKey>,
    // Questions that may bring more.
    pending_claims: usize,
    // Begun, and ended without a settlement: their task panicked. With how many beats in a row
    // have not named them.
    unsettled: HashMap<LeaseKey, u32>,
    // Not to be begun any more, oldest first.
    disowned: VecDeque<LeaseKey>,
    // Named by the ledger at the last beat and not held, by how often.
    unmatched: HashMap<LeaseKey, u32>,
}

/// A lease whose attempt runs, until it is settled.
#[derive(Debug)]
pub(super) struct InFlightLease {
    in_flight: InFlightLeases,
    key: LeaseKey,
    settled: bool,
}

/// A claim that is on its way and may bring leases.
#[derive(Debug)]
pub(super) struct PendingClaim(InFlightLeases);

impl Drop for PendingClaim {
    fn drop(&mut self) {
        self.0.lock().pending_claims -= 1;
        self.0.0.emptied.notify_waiters();
    }
}

/// Leases that the ledger assigns to this node and that it does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseMismatch {
    /// Nothing was sent: the lease got lost on its way here.
    pub(super) never_begun: Vec<LeaseKey>,
    /// Their requests may have been sent.
    pub(super) lost: Vec<LeaseKey>,
}

impl LeaseMismatch {
    pub(super) fn is_empty(&self) -> bool {
        self.never_begun.is_empty() && self.lost.is_empty()
    }
}

impl InFlightLeases {
    /// Enters a hand-out that is about to begin; none if it was disowned.
    pub(super) fn enter(&self, key: LeaseKey) -> Option<InFlightLease> {
        let mut table = self.lock();
        if table.disowned.contains(&key) {
            return None;
        }
        table.held.insert(key);
        drop(table);
        Some(InFlightLease { in_flight: self.clone(), key, settled: false })
    }

    /// Announces a claim before it is made. A caller that stops claiming when the gateway
    /// drains checks for that after this call.
    pub(super) fn begin_claim(&self) -> PendingClaim {
        self.lock().pending_claims += 1;
        PendingClaim(self.clone())
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.lock().held.len()
    }

    /// Completes when none is held, and none is on its way.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn is_empty(&self) -> bool {
        let table = self.lock();
        table.held.is_empty() && table.pending_claims == 0
    }

    /// Compares with what the ledger says. What never began is believed only the second
    /// time: the first time its hand-out may still be on its way. It is disowned then.
    pub(super) fn compare(&self, owned: &[Owned]) -> LeaseMismatch {
        let mut table = self.lock();
        let mut mismatch = LeaseMismatch::default();
        let before = std::mem::take(&mut table.unmatched);
        let named: HashSet<_> = owned.iter().map(|owned| owned.key).collect();
        for owned in owned
            .iter()
            .filter(|owned| !table.held.contains(&owned.key))
            .copied()
            .collect::<Vec<_>>()
        {
            let times = before.get(&owned.key).copied().unwrap_or(0) + 1;
            if table.unsettled.contains_key(&owned.key) {
                mismatch.lost.push(owned.key);
                continue;
            }
            table.unmatched.insert(owned.key, times);
            if times < 2 {
                continue;
            }
            table.disown(owned.key);
            match owned.taken_over {
                true => mismatch.lost.push(owned.key),
                false => mismatch.never_begun.push(owned.key),
            }
        }
        table.forget_unsettled(&named);
        mismatch
    }

    fn lock(&self) -> MutexGuard<'_, LeaseTable> {
        // Each change leaves it whole.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseTable {
    /// Forgets what broke and two beats in a row do not name. The first of them may have been
    /// read before the hand-out was committed, and have come back only after its task ended.
    fn forget_unsettled(&mut self, named: &HashSet<LeaseKey>) {
        self.unsettled.retain(|key, unnamed| {
            *unnamed = if named.contains(key) { 0 } else { *unnamed + 1 };
            *unnamed < 2
        });
    }

    fn disown(&mut self, key: LeaseKey) {
        if self.disowned.contains(&key) {
            return;
        }
        if self.disowned.len() == REMEMBERED {
            self.disowned.pop_front();
        }
        self.disowned.push_back(key);
    }
}

impl InFlightLease {
    /// Its result has reached the ledger, or another node holds it.
    pub(super) fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for InFlightLease {
    fn drop(&mut self) {
        let mut table = self.in_flight.lock();
        table.held.remove(&self.key);
        if !self.settled {
            table.unsettled.insert(self.key, 0);
        }
        if table.held.is_empty() {
            drop(table);
            self.in_flight.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn key(number: i64) -> LeaseKey {
        LeaseKey::new(number, 1)
    }

    fn owned(number: i64) -> Owned {
        Owned { key: key(number), taken_over: false, cancel_asked: false }
    }

    #[tokio::test]
    async fn nothing_is_left_only_once_nothing_can_come_any_more() {
        let in_flight = InFlightLeases::default();
        let pending_claims = in_flight.begin_claim();
        let mut emptied = std::pin::pin!(in_flight.emptied());
        assert_eq!(emptied.as_mut().now_or_never(), None);
        let held = in_flight.enter(key(1)).unwrap();
        drop(pending_claims);
        assert_eq!(emptied.as_mut().now_or_never(), None);
        held.settled();
        assert_eq!(emptied.now_or_never(), Some(()));
    }

    #[test]
    fn what_is_held_is_not_amiss_and_what_never_came_is_the_second_time() {
        let in_flight = InFlightLeases::default();
        let _held = in_flight.enter(key(1)).unwrap();
        assert!(in_flight.compare(&[owned(1), owned(2)]).is_empty());
        let mismatch = in_flight.compare(&[owned(1), owned(2)]);
        assert_eq!((mismatch.never_begun, mismatch.lost), (vec![key(2)], vec![]));
    }

    #[test]
    fn what_comes_late_but_before_it_is_disowned_is_begun_and_afterwards_it_is_not() {
        let in_flight = InFlightLeases::default();
        in_flight.compare(&[owned(1), owned(2)]);
        let _late = in_flight.enter(key(1)).unwrap();
        assert_eq!(in_flight.compare(&[owned(1), owned(2)]).never_begun, [key(2)]);
        assert!(in_flight.enter(key(2)).is_none());
    }

    #[test]
    fn an_attempt_that_ended_without_a_settlement_may_have_been_sent() {
        let in_flight = InFlightLeases::default();
        drop(in_flight.enter(key(1)));
        assert_eq!(in_flight.compare(&[owned(1)]).lost, [key(1)]);
        in_flight.enter(key(2)).unwrap().settled();
        assert!(in_flight.compare(&[owned(2)]).is_empty());
    }

    #[test]
    fn an_attempt_that_broke_while_a_beat_was_on_its_way_may_have_been_sent() {
        let in_flight = InFlightLeases::default();
        // The ledger is read for a beat, then hands out; the task has panicked before the beat
        // is back.
        drop(in_flight.enter(key(1)));
        assert!(in_flight.compare(&[]).is_empty());
        assert_eq!(in_flight.compare(&[owned(1)]).lost, [key(1)]);
        assert!(in_flight.compare(&[]).is_empty());
        assert_eq!(in_flight.compare(&[owned(1)]).lost, [key(1)]);
    }

    #[test]
    fn what_two_beats_in_a_row_do_not_name_is_forgotten() {
        let in_flight = InFlightLeases::default();
        drop(in_flight.enter(key(1)));
        in_flight.compare(&[]);
        in_flight.compare(&[]);
        assert!(in_flight.lock().unsettled.is_empty());
    }

    #[test]
    fn what_was_taken_over_may_have_been_sent_by_the_dead() {
        let in_flight = InFlightLeases::default();
        let orphan = Owned { taken_over: true, ..owned(1) };
        in_flight.compare(&[orphan]);
        let mismatch = in_flight.compare(&[orphan]);
        assert_eq!((mismatch.never_begun, mismatch.lost), (vec![], vec![key(1)]));
    }
}
