//! The state that callers, committers, readers and the poller of a ledger share.
//!
//! Owns what follows from a durable change: counts, hints, and who is woken. Its
//! invariant: nothing here happens before the change is durable.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::cache::paused_queues::Paused;
use crate::cache::read_cache::Snapshots;
use crate::cache::throughput::Throughput;
use crate::cluster::fleet::Dead;
use crate::commit::effects::Effects;
use crate::commit::handoff::{DeliverySlots, Desk, Reservation};
use crate::error::LedgerError;
use crate::model::{Canceled, Placed, Settlement};
use crate::operations::capacity;
use crate::store::Store;
use crate::webhooks::MessageRenderer;
use crate::webhooks::due_index::{DeliveryLane, DueIndex};
use crate::webhooks::publish::NewlyDue;
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::{Lane, NewOperation, NextState, Status};
use cloakroom_domain::sealing::KeyId;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_runtime::LogThrottle;
use cloakroom_runtime::clock::Clock;

/// What callers and the committer share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) lanes: Arc<crate::cache::lane_depths::Lanes>,
    pub(crate) hints: crate::cluster::hints::Hints,
    pub(crate) waiters: crate::cache::watch::Waiters,
    pub(crate) snapshots: Snapshots,
    pub(crate) paused: Paused,
    pub(crate) waiting: AtomicI64,
    pub(crate) desk: OnceLock<Arc<dyn Desk>>,
    pub(crate) work: Notify,
    pub(crate) waits: Notify,
    pub(crate) mail: Notify,
    /// A write found the disk full.
    pub(crate) disk_full: Notify,
    /// The same, for those who free what is stored for webhooks.
    pub(crate) disk_full_for_webhooks: Notify,
    pub(crate) due_index: DueIndex,
    pub(crate) fans: Notify,
    pub(crate) delivery_slots: OnceLock<Arc<dyn DeliverySlots>>,
    pub(crate) renderer: OnceLock<Arc<dyn MessageRenderer>>,
    pub(crate) stirred: Notify,
    pub(crate) dead: Mutex<Vec<Dead>>,
    pub(crate) throughput: Throughput,
    pub(crate) cancels: Mutex<Option<mpsc::UnboundedSender<OperationId>>>,
    pub(crate) complaints: crate::write_errors::Complaints,
    pub(crate) looks: capacity::Looks,
    /// What the log is told of operations that are left to other nodes.
    pub(crate) strange: LogThrottle,
    pub(crate) fatal: CancellationToken,
    pub(crate) sealing_key: Option<KeyId>,
    pub(crate) clock: Clock,
}

impl Shared {
    pub(crate) fn reserve(&self, lane: &Lane, overtakes: bool) -> Option<Box<dyn Reservation>> {
        self.desk.get()?.reserve(lane, overtakes)
    }

    /// These have changed, durably; no caller has been told yet.
    pub(crate) fn changed(&self, ids: impl IntoIterator<Item = OperationId> + Clone) {
        self.snapshots.forget(ids.clone());
        self.hints.changed(ids.clone());
        self.waiters.changed(ids);
    }

    pub(crate) fn listeners(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<OperationId>>> {
        // It holds a plain value.
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes that are dead, as far as this one can see.
    pub(crate) fn dead(&self) -> MutexGuard<'_, Vec<Dead>> {
        // It holds plain values.
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many more wait than before.
    pub(crate) fn wait(&self, more: i64) {
        if more != 0 {
            let waiting = self.waiting.fetch_add(more, Ordering::Relaxed) + more;
            metrics::gauge!("cloakroom_operations_waiting").set(waiting as f64);
        }
    }

    /// A transaction is durable: lanes and hints follow.
    pub(crate) fn committed(&self, effects: Effects) {
        self.changed(effects.released.iter().copied());
        self.wait(effects.waiting);
        for (lane, due_at) in &effects.ready {
            self.lanes.added(lane, *due_at);
        }
        for (lane, due_at) in &effects.found_again {
            self.lanes.due(lane, *due_at);
        }
        for (lane, octets) in &effects.ended {
            self.lanes.let_go(lane, *octets);
        }
        for lane in &effects.unqueued {
            self.lanes.removed(lane, 1);
        }
        for lane in &effects.unkeyed {
            self.lanes.wait(lane, -1);
        }
        effects.recounted.iter().for_each(|recounted| self.lanes.recounted(recounted));
        let ready = effects.ready.iter().chain(&effects.found_again);
        self.hints.ready(ready.map(|(lane, _)| lane));
        if !effects.ready.is_empty() || !effects.found_again.is_empty() {
            self.work.notify_one();
        }
        if effects.waits {
            self.waits.notify_one();
        }
        crate::operations::unreadable::tell(self, &effects);
        if !effects.due.is_empty() {
            // It may be of a message that more receivers are to be given.
            self.fans.notify_one();
        }
        self.made_due(effects.due);
    }

    /// This node has made deliveries due, durably.
    pub(crate) fn made_due(&self, newly: NewlyDue) {
        let first = newly.iter().filter(|(lane, _)| !lane.again);
        self.hints.due(first.map(|(lane, _)| lane.receiver));
        self.newly_due(newly);
    }

    /// Another node has made deliveries to these due.
    pub(crate) fn due_elsewhere(&self, receivers: Vec<ReceiverKey>) {
        let now = self.clock.now();
        let lane = |receiver| (DeliveryLane { receiver, again: false }, now);
        self.newly_due(receivers.into_iter().map(lane).collect());
    }

    /// Deliveries are due, durably.
    pub(crate) fn newly_due(&self, newly: NewlyDue) {
        if newly.is_empty() {
            return;
        }
        for (lane, due_at) in newly {
            self.due_index.added(lane, due_at);
        }
        self.mail.notify_one();
    }

    pub(crate) fn count_accepted(route: &Arc<str>) {
        let route = Arc::clone(route);
        metrics::counter!("cloakroom_operations_accepted_total", "route" => route).increment(1);
    }

    pub(crate) fn accepted(&self, operation: &NewOperation, placed: Placed) {
        if let Some(retry) = operation.retry_of {
            // It names its successor from now on.
            self.snapshots.forget([retry.of]);
        }
        self.lanes.keep(&operation.lane, operation.work.octets());
        if placed == Placed::Waiting {
            self.wait(1);
            self.lanes.wait(&operation.lane, 1);
        }
        if placed == Placed::Running {
            self.lanes.started(&operation.lane);
        }
        if placed == Placed::Ready {
            self.lanes.added(&operation.lane, operation.due_at);
            self.hints.ready([&operation.lane]);
            self.work.notify_one();
        }
    }

    pub(crate) fn settled(&self, id: OperationId, status: Status, settlement: &Settlement) {
        // What was called off ends otherwise than was decided.
        if status.is_final() {
            Self::count_finished(status, &settlement.transition.next);
        }
        self.changed([id]);
    }

    /// An operation has ended without anybody who settled it.
    pub(crate) fn finished(next: &NextState) {
        if matches!(next, NextState::Failed(_)) {
            Self::count_finished(Status::Failed, next);
        }
    }

    fn count_finished(status: Status, next: &NextState) {
        let code = match next {
            NextState::Failed(failure) => failure.code.as_str(),
            _ => "",
        };
        metrics::counter!(
            "cloakroom_operations_finished_total", "outcome" => status.as_str(), "error" => code
        )
        .increment(1);
    }

    pub(crate) fn canceled(&self, id: OperationId, canceled: Canceled) {
        match canceled {
            Canceled::Done => {
                metrics::counter!(
                    "cloakroom_operations_finished_total", "outcome" => "canceled", "error" => ""
                )
                .increment(1);
            }
            Canceled::Asked => {
                self.hints.called_off(id);
                self.call_off(id);
            }
            Canceled::Already | Canceled::TooLate(_) | Canceled::Unknown => return,
        }
        self.changed([id]);
    }

    /// Tells the engine of this node. Without a listener nothing runs here.
    pub(crate) fn call_off(&self, id: OperationId) {
        if let Some(listener) = &*self.listeners() {
            let _ = listener.send(id);
        }
    }

    /// A write failed for everybody.
    pub(crate) fn note(&self, error: &LedgerError) {
        self.note_of_upkeep(error);
        if let LedgerError::Full = error {
            self.disk_full.notify_one();
            self.disk_full_for_webhooks.notify_one();
        }
    }

    /// A write of the gateway's upkeep failed for everybody. Where such a write finds the disk
    /// full, another try to make room does not help.
    pub(crate) fn note_of_upkeep(&self, error: &LedgerError) {
        self.complaints.note(error, &self.clock);
        if let LedgerError::NotDurable(_) = error {
            self.fatal.cancel();
        }
    }
}
