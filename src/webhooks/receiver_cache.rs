//! Whom messages go to, remembered between attempts.
//!
//! Owns what was read of receivers and prepared for sending. Its invariant: what is used
//! for an attempt is as new as this node knows of its receiver when the attempt begins, at least
//! as new as when the delivery was handed out, and no key signs in it that has retired.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DeliveryTransport, WebhookState};
use cloakroom_domain::Timestamp;
use cloakroom_domain::delivery::ReceiverKey;
use cloakroom_ledger::{LeasedDelivery, LedgerError, Receiver};

/// How long a receiver is remembered that nothing is sent to.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Prepared receivers.
pub(super) struct ReceiverCache<A>(Mutex<HashMap<ReceiverKey, CachedReceiver<A>>>);

struct CachedReceiver<A> {
    address: Arc<A>,
    /// What operators know it by.
    name: String,
    changed: i64,
    /// When the next of its keys retires.
    good_until: Option<Timestamp>,
    used_at: Timestamp,
}

/// Why nothing can be sent to a receiver.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAddress {
    /// It takes nothing, or is gone.
    #[error("the receiver takes nothing at present")]
    TakesNothing,
    /// What is known of it cannot be used.
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

    /// What operators know a receiver by, as long as it is remembered: a subscription's id, or
    /// the origin of callbacks.
    pub(super) fn name(&self, receiver: ReceiverKey) -> Option<String> {
        self.known().get(&receiver).map(|known| known.name.clone())
    }

    /// Forgets those that nothing has been sent to for long.
    pub(super) fn sweep(&self, now: Timestamp) {
        self.known().retain(|_, known| now.since(known.used_at) < REMEMBERED);
    }
}

/// Where a delivery goes.
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
