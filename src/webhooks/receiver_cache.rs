//! The receiver cache: receivers that are read, opened and ready for sending.
//!
//! Owns the cached receivers. Its invariant: an attempt uses the newest version of its receiver
//! that this node knows of when the attempt begins, at least the version at the time of the claim,
//! and no retired key signs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DeliveryTransport, WebhookState};
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_ledger::{LeasedDelivery, LedgerError, Receiver};

/// How long an unused receiver stays cached.
const REMEMBERED: Duration = Duration::from_mins(10);

/// The cached receivers, by key.
pub(super) struct ReceiverCache<A>(Mutex<HashMap<ReceiverKey, CachedReceiver<A>>>);

struct CachedReceiver<A> {
    address: Arc<A>,
    /// The name that operators know it by.
    name: String,
    changed: i64,
    /// When the next of its keys retires.
    good_until: Option<Timestamp>,
    used_at: Timestamp,
}

/// The reason why a receiver cannot be sent to.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAddress {
    /// It is disabled or deleted.
    #[error("the receiver is not active")]
    TakesNothing,
    /// Its keys or headers cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// It could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl<A> Default for ReceiverCache<A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<A> ReceiverCache<A> {
    fn known(&self) -> MutexGuard<'_, HashMap<ReceiverKey, CachedReceiver<A>>> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of one, unless it may have changed: since when this was read, by
    /// what the delivery says or the ledger knows here, or because a key retires.
    fn fresh(
        &self,
        delivery: &LeasedDelivery,
        now: Timestamp,
        has_changed: impl Fn(i64) -> bool,
    ) -> Option<Arc<A>> {
        let mut known = self.known();
        let known = known.get_mut(&delivery.receiver)?;
        let good = known.good_until.is_none_or(|until| now < until);
        if known.changed < delivery.receiver_changed || has_changed(known.changed) || !good {
            return None;
        }
        known.used_at = now;
        Some(Arc::clone(&known.address))
    }

    /// The name of a cached receiver for operators: a subscription's id, or
    /// the origin of callbacks.
    pub(super) fn name(&self, receiver: ReceiverKey) -> Option<String> {
        self.known().get(&receiver).map(|known| known.name.clone())
    }

    /// Drops receivers that were not used for long.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.known().retain(|_, known| now.since(known.used_at) < REMEMBERED);
    }
}

/// The receiver of a delivery, from the cache or from the ledger.
pub(super) async fn address<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    delivery: &LeasedDelivery,
    now: Timestamp,
) -> Result<Arc<S::Address>, NoAddress> {
    let has_changed = |since| shared.ledger.receiver_has_changed(delivery.receiver, since);
    if let Some(address) = shared.receivers.fresh(delivery, now, has_changed) {
        return Ok(address);
    }
    let receiver = shared.ledger.receiver(delivery.receiver).await?;
    let receiver = receiver.filter(|receiver| receiver.active).ok_or(NoAddress::TakesNothing)?;
    let Receiver { changed, .. } = receiver;
    let (receiver, good_until) = with_live_keys(receiver, now);
    let address = shared.sender.address(&receiver).map_err(NoAddress::Unusable)?;
    let address = Arc::new(address);
    let name = match &receiver.subscription {
        Some(id) => id.to_string(),
        None => format!("callbacks to {}", receiver.url),
    };
    let known =
        CachedReceiver { address: Arc::clone(&address), name, changed, good_until, used_at: now };
    shared.receivers.known().insert(delivery.receiver, known);
    Ok(address)
}

/// Leaves retired keys out, and says when the next one retires.
fn with_live_keys(mut receiver: Receiver, now: Timestamp) -> (Receiver, Option<Timestamp>) {
    receiver.keys.retain(|key| key.retires_at.is_none_or(|at| now < at));
    let next = receiver.keys.iter().filter_map(|key| key.retires_at).min();
    (receiver, next)
}
