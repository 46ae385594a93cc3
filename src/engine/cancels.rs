//! Cancellation of running attempts.
//!
//! Owns the way from the ledger's notice that an operation is canceled to the attempt that runs it.
//! Its invariant: a cancellation that arrives between the commit of a claim and the start of the
//! attempt is not lost. It must not know what an attempt does about it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use cloakroom_domain::OperationId;
use cloakroom_runtime::lifecycle::Tasks;

/// How many cancellations are remembered whose attempt has not been seen.
const REMEMBERED: usize = 1024;

/// The running attempts. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct CancelRegistry(Arc<Mutex<CancelState>>);

#[derive(Debug, Default)]
struct CancelState {
    running: HashMap<OperationId, CancellationToken>,
    // Called off before their attempt was entered, oldest first.
    early: VecDeque<OperationId>,
}

/// An attempt that can be called off for as long as this lives.
#[derive(Debug)]
pub(super) struct CancelHandle {
    cancels: CancelRegistry,
    id: OperationId,
    token: CancellationToken,
}

impl CancelRegistry {
    /// Routes what comes from the ledger until nothing is carried out any more: attempts
    /// can be called off also while draining.
    pub(super) fn listen(
        &self,
        mut canceled: UnboundedReceiver<OperationId>,
        over: CancellationToken,
        tasks: &Tasks,
    ) {
        let cancels = self.clone();
        tasks.spawn_until_cut(async move {
            loop {
                let heard = tokio::select! {
                    () = over.cancelled() => return,
                    heard = canceled.recv() => heard,
                };
                match heard {
                    Some(id) => cancels.cancel(id),
                    None => return,
                }
            }
        });
    }

    /// Enters an attempt that is about to begin.
    pub(super) fn enter(&self, id: OperationId) -> CancelHandle {
        let token = CancellationToken::new();
        let mut state = self.lock();
        if let Some(position) = state.early.iter().position(|early| *early == id) {
            state.early.remove(position);
            token.cancel();
        }
        state.running.insert(id, token.clone());
        drop(state);
        CancelHandle { cancels: self.clone(), id, token }
    }

    fn cancel(&self, id: OperationId) {
        let mut state = self.lock();
        if let Some(token) = state.running.get(&id) {
            return token.cancel();
        }
        if state.early.len() == REMEMBERED {
            state.early.pop_front();
        }
        state.early.push_back(id);
    }

    fn lock(&self) -> MutexGuard<'_, CancelState> {
        // Each change leaves the lists whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancelHandle {
    /// Whether the attempt is called off already.
    pub(super) fn is_canceled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the attempt is called off.
    pub(super) async fn canceled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for CancelHandle {
    fn drop(&mut self) {
        self.cancels.lock().running.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;

    fn id(seed: u8) -> OperationId {
        OperationId::new(Timestamp::EPOCH, 0, [seed; 10])
    }

    #[test]
    fn only_the_attempt_that_is_named_is_called_off() {
        let cancels = CancelRegistry::default();
        let (one, other) = (cancels.enter(id(1)), cancels.enter(id(2)));
        cancels.cancel(id(1));
        assert!(one.token.is_cancelled() && !other.token.is_cancelled());
    }

    #[test]
    fn a_cancellation_ahead_of_the_attempt_is_not_lost_and_counts_once() {
        let cancels = CancelRegistry::default();
        cancels.cancel(id(1));
        assert!(cancels.enter(id(1)).token.is_cancelled());
        assert!(!cancels.enter(id(1)).token.is_cancelled());
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let cancels = CancelRegistry::default();
        for _ in 0..=REMEMBERED {
            cancels.cancel(id(9));
        }
        assert_eq!(cancels.lock().early.len(), REMEMBERED);
    }
}
