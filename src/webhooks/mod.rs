//! Outgoing webhooks: claiming, signing and sending deliveries, and settling their outcome.
//!
//! Owns the sending of due deliveries, and that the outcome of each attempt reaches the ledger.
//! Its invariants: only checked addresses are dialled, redirects are not followed, and no attempt
//! lasts longer or reads more than its limits; a claimed delivery is sent or handed back, and
//! settled by the node that holds its lease; and one receiver does not delay another. It must not
//! know how operations are accepted or run, or how a message is worded: it meets the rest in the
//! ledger.

mod connection;
mod dial;
mod dispatcher;
mod dns_lookups;
mod executor;
mod fan_out;
mod handoff;
mod in_flight;
mod ledger_write;
mod loops;
mod maintenance;
mod metrics;
mod ownership;
mod poller;
mod pool;
mod receiver_cache;
mod replay;
mod resolver;
mod response_excerpt;
mod sender;
mod settler;
mod signer;
mod ssrf_guard;
mod transport;
mod url_check;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::scheduler::{DeliveryScheduler, SlotLimits};
use cloakroom_domain::webhooks::{DeliveryDecision, ReceiverAnswer, ReceiverKey};
use cloakroom_ledger::{
    AttemptRecord, AttemptSettlement, DeliverySettlement, LeasedDelivery, Ledger, Receiver,
};
use cloakroom_runtime::LoopHealth;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;
pub use dial::Trust;
pub use dns_lookups::DnsLookups;
use in_flight::DeliveriesInFlight;
use loops::WebhookLoop;
use ownership::Ownership;
use receiver_cache::ReceiverCache;
pub use replay::{REPLAY, ReplayJob, ReplayProgress};
pub use resolver::{Resolver, SystemResolver};
pub use sender::{DeliveryAttemptResult, PermissionReply, SenderSettings, Target, WebhookSender};
use settler::PendingSettlement;
pub use signer::{BadMessageId, SigningKeys, WebhookMessage};
pub use ssrf_guard::{GuardRefusal, SsrfGuard};
pub use transport::HttpTransport;
pub use url_check::{UrlRefusal, check_url};

/// The settings of webhooks.
#[derive(Clone)]
pub struct Settings {
    /// How much may go out at once.
    pub limits: SlotLimits,
    /// How long an attempt may take as a whole.
    pub timeout: Duration,
    /// How long a node may miss its heartbeat before others serve its receivers.
    pub lease: Duration,
    /// How long finished deliveries are kept.
    pub over: Duration,
    /// Whether this node may begin anything at present. Asked right before it does.
    pub may_begin: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, timeout, lease, over, may_begin: _ } = self;
        f.debug_struct("Settings")
            .field("limits", limits)
            .field("timeout", timeout)
            .field("lease", lease)
            .field("over", over)
            .finish_non_exhaustive()
    }
}

/// Makes attempts to deliver.
pub trait DeliveryTransport: Send + Sync + 'static {
    /// A receiver, prepared for sending.
    type Address: Send + Sync + 'static;

    /// Prepares for sending to a receiver; its keys are those that sign now. Why not, where
    /// that is not possible.
    fn address(&self, receiver: &Receiver) -> Result<Self::Address, String>;

    /// Makes one attempt; none is made where this process has no files left to connect with.
    fn send(
        &self,
        address: &Self::Address,
        delivery: &LeasedDelivery,
        now: Timestamp,
    ) -> impl Future<Output = Option<ReceiverAnswer>> + Send;
}

/// A handle on running webhooks. It runs until the tasks drain, even
/// when this handle is dropped.
#[derive(Clone, Debug)]
pub struct Webhooks {
    loop_health: Arc<LoopHealth<WebhookLoop>>,
}

/// The state that all loops of webhooks share.
struct WebhookState<S: DeliveryTransport> {
    ledger: Ledger,
    sender: S,
    settings: Settings,
    clock: Clock,
    tasks: Tasks,
    traffic: Mutex<DeliveryScheduler<LeasedDelivery>>,
    in_flight: DeliveriesInFlight,
    receivers: ReceiverCache<S::Address>,
    ownership: Ownership,
    loop_health: Arc<LoopHealth<WebhookLoop>>,
    /// Held while something may be handed out.
    claiming: tokio::sync::Mutex<()>,
    /// A slot became free, or a receiver is no longer parked.
    freed: Notify,
    /// Deliveries were due at the last look: a freed slot wakes the dispatcher then.
    wanting: AtomicBool,
    /// A delivery was leased since the poller last looked.
    busy: AtomicBool,
    ends: mpsc::UnboundedSender<PendingSettlement>,
}

impl Webhooks {
    /// Starts sending: takes back what former incarnations were sending, looks what is due,
    /// and only then claims. The recorder of metrics has to be installed before. `stay` is
    /// kept until all that was handed out is settled: by then the node may take leave.
    pub fn start<S: DeliveryTransport>(
        ledger: Ledger,
        sender: S,
        settings: Settings,
        clock: Clock,
        tasks: Tasks,
        stay: impl Send + 'static,
    ) -> Self {
        let (shared, ends) = WebhookState::new(ledger, sender, settings, clock, tasks);
        let webhooks = Self { loop_health: Arc::clone(&shared.loop_health) };
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            settler::run(Arc::clone(&shared), ends, begin(shared)).await;
            drop(stay);
        });
        webhooks
    }

    /// The name of a loop whose last success is too old: the gateway is not ready.
    pub fn stalled(&self, now: Timestamp) -> Option<&'static str> {
        self.loop_health.stuck(now)
    }
}

async fn begin<S: DeliveryTransport>(shared: Arc<WebhookState<S>>) {
    if !maintenance::start(&shared).await {
        return;
    }
    shared.ledger.lend_delivery_slots(Arc::new(handoff::WebhookSlots(Arc::downgrade(&shared))));
    let tasks = shared.tasks.clone();
    tasks.spawn(dispatcher::run(Arc::clone(&shared)));
    tasks.spawn(fan_out::run(Arc::clone(&shared)));
    if shared.ledger.is_shared() {
        tasks.spawn(poller::run(Arc::clone(&shared)));
    }
    tasks.spawn(maintenance::make_room(Arc::clone(&shared)));
    tasks.spawn(maintenance::run(shared));
}

impl<S: DeliveryTransport> WebhookState<S> {
    fn new(
        ledger: Ledger,
        sender: S,
        settings: Settings,
        clock: Clock,
        tasks: Tasks,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<PendingSettlement>) {
        let (ends, ended) = mpsc::unbounded_channel();
        let shared = Arc::new(Self {
            traffic: Mutex::new(DeliveryScheduler::new(settings.limits)),
            in_flight: DeliveriesInFlight::default(),
            receivers: ReceiverCache::default(),
            ownership: Ownership::default(),
            loop_health: Arc::new(LoopHealth::starting(clock.now())),
            claiming: tokio::sync::Mutex::default(),
            freed: Notify::new(),
            wanting: AtomicBool::new(true),
            busy: AtomicBool::new(false),
            ledger,
            sender,
            settings,
            clock,
            tasks,
            ends,
        });
        (shared, ended)
    }

    fn traffic(&self) -> MutexGuard<'_, DeliveryScheduler<LeasedDelivery>> {
        // Each change leaves it whole.
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an attempt that was made to the settler.
    fn settle(&self, delivery: &LeasedDelivery, record: AttemptRecord, decision: DeliveryDecision) {
        let attempt = AttemptSettlement {
            lease: delivery.lease,
            receiver: delivery.receiver,
            message: Arc::clone(&delivery.message),
            topic: delivery.topic,
            record,
            decision,
            at: self.clock.now(),
        };
        self.enqueue(delivery.receiver, DeliverySettlement::Attempted(attempt));
    }

    /// Hands back an unsent delivery, as if it had not been claimed; it is due again then.
    fn return_at(&self, delivery: &LeasedDelivery, due_at: Timestamp) {
        let returned = DeliverySettlement::Returned { lease: delivery.lease, due_at };
        self.enqueue(delivery.receiver, returned);
    }

    fn enqueue(&self, receiver: ReceiverKey, settlement: DeliverySettlement) {
        // The settler outlives all attempts.
        let _ = self.ends.send(PendingSettlement { receiver, settlement });
    }

    /// A slot became free: wakes the dispatcher, unless nothing was due.
    fn made_room(&self) {
        if self.wanting.load(Ordering::SeqCst) {
            self.freed.notify_one();
        }
    }

    /// Hands unsent deliveries back, as if they had not been claimed.
    fn give_back(&self, deliveries: &[LeasedDelivery]) {
        let now = self.clock.now();
        deliveries.iter().for_each(|delivery| self.return_at(delivery, now));
    }

    /// Waits that long; false if draining began first.
    async fn pause(&self, pause: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.tasks.draining() => false,
            () = self.clock.sleep(pause) => true,
        }
    }
}

#[cfg(test)]
#[path = "webhooks_tests.rs"]
mod tests;
