//! Hints to other nodes, so that they need not look often.
//!
//! Owns what is still to be told. A hint is never the truth: it may be late, cut short or
//! lost, and the node that gets it looks for itself. At most one is sent in each interval,
//! because the server makes all who send wait for each other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::Hint;
use crate::store::Store;
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::Lane;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_runtime::clock::Clock;

/// The least time between two hints.
const INTERVAL: Duration = Duration::from_millis(10);
/// The most operations or receivers that one hint names; the others are found by looking.
const MOST: usize = 200;

/// What is still to be told.
#[derive(Debug)]
pub(crate) struct Hints {
    /// Whether there is anybody to be told.
    wanted: bool,
    untold: Mutex<Hint>,
    came: Notify,
}

impl Hints {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, untold: Mutex::default(), came: Notify::new() }
    }

    /// Something became ready in these lanes.
    pub(crate) fn ready<'a>(&self, lanes: impl IntoIterator<Item = &'a Lane>) {
        self.add(|hint| {
            for lane in lanes {
                if !hint.lanes.contains(lane) {
                    hint.lanes.push(lane.clone());
                }
            }
        });
    }

    /// These have changed.
    pub(crate) fn changed(&self, ids: impl IntoIterator<Item = OperationId>) {
        self.add(|hint| {
            let room = MOST.saturating_sub(hint.changed.len());
            hint.changed.extend(ids.into_iter().take(room));
        });
    }

    /// This one runs, perhaps elsewhere, and is called off.
    pub(crate) fn called_off(&self, id: OperationId) {
        self.add(|hint| {
            if hint.called_off.len() < MOST {
                hint.called_off.push(id);
            }
        });
    }

    /// Permits are wanted, or were given back.
    pub(crate) fn stirred(&self) {
        self.add(|hint| hint.permits = true);
    }

    /// Receivers, or their keys, are not what they were.
    pub(crate) fn receivers_changed(&self) {
        self.add(|hint| hint.receivers_changed = true);
    }

    /// Deliveries to these are due.
    pub(crate) fn due(&self, receivers: impl IntoIterator<Item = ReceiverKey>) {
        self.add(|hint| {
            for receiver in receivers {
                if hint.receivers.len() < MOST && !hint.receivers.contains(&receiver) {
                    hint.receivers.push(receiver);
                }
            }
        });
    }

    fn add(&self, add: impl FnOnce(&mut Hint)) {
        if self.wanted {
            add(&mut self.untold());
            self.came.notify_one();
        }
    }

    /// Tells until dropped.
    pub(crate) async fn run(&self, store: &Store, clock: &Clock) {
        loop {
            self.came.notified().await;
            let hint = std::mem::take(&mut *self.untold());
            if hint != Hint::default()
                && let Err(error) = store.tell(hint).await
            {
                tracing::debug!(%error, "a hint got lost");
            }
            clock.sleep(INTERVAL).await;
        }
    }

    fn untold(&self) -> MutexGuard<'_, Hint> {
        // Each change leaves it whole.
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
