//! Webhooks in the ledger: receivers, messages and deliveries.
//!
//! Owns subscriptions, their keys, messages and deliveries. An event and what receivers
//! are told of it are committed together; a delivery has exactly one row among those that
//! are due, sent, held and ended, and only the holder of the latest lease settles it. What
//! both engines say alike is said here once ([`sql`]). It must not know how a message is
//! worded, signed or sent.

pub(super) mod callback_receiver;
mod claim;
mod compression;
pub(super) mod due_index;
pub(super) mod fan_out;
mod model;
pub(super) mod postgres;
pub(super) mod publish;
pub(super) mod read;
pub(super) mod replay;
pub(super) mod rows;
pub(super) mod settle;
pub(super) mod sql;
pub(super) mod sqlite;
pub(super) mod subscribers;
pub(super) mod subscription_index;
pub(super) mod subscriptions;
pub(super) mod unreadable;

use std::sync::Arc;

pub use crate::webhooks::due_index::DeliveryLane;
pub use crate::webhooks::model::{
    AttemptRecord, AttemptSettlement, Cause, ClaimedDeliveries, DeliveriesOf, Delivery,
    DeliveryCounts, DeliveryEnd, DeliveryKey, DeliveryLease, DeliveryListing, DeliveryPage,
    DeliverySelection, DeliverySettled, DeliverySettlement, DeliveryState, DeliveryWant,
    DisabledFor, FirstCallback, Format, KeyKind, KeyOwner, KeyRotation, LeasedDelivery, Message,
    MessageRenderer, NewCallbacks, NewKey, NewSubscription, NoSubscriptionId, PrunedDeliveries,
    PublishedKey, Receiver, RedeliveryOutcome, ReplayStep, ReplayStepOutcome, RotationOutcome,
    StoredKey, SubscribeOutcome, Subscription, SubscriptionChange, SubscriptionId,
    SubscriptionListing, SubscriptionSettings, SubscriptionState, SubscriptionUpdate,
    UpdateOutcome,
};
pub use crate::webhooks::subscribers::Owners;
pub use crate::webhooks::subscriptions::USED;

use crate::webhooks::claim::ClaimDeliveries;
use crate::webhooks::fan_out::FanOutOnce;
use crate::webhooks::replay::{PruneDeliveries, Redeliver, Replay};
use crate::webhooks::settle::{
    ExpireDeliveries, HoldDeliveries, ReclaimDeliveries, SettleDelivered, SettleDeliveries,
    SettleUnreadable,
};
use crate::webhooks::sql::SqlReader;
use crate::webhooks::subscriptions::{ChangeSubscription, RotateKeys, SendPing, Subscribe};
use crate::webhooks::unreadable::UnreadableDelivery;

use crate::Ledger;
use crate::commit::handoff::DeliverySlots;
use crate::error::LedgerError;
use crate::page::{self, Listed};
use crate::store::on_store;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_domain::{Principal, Timestamp};

impl Ledger {
    /// Lends the renderer of messages. The first one stays.
    pub fn lend_renderer(&self, renderer: Arc<dyn MessageRenderer>) {
        let _ = self.shared.renderer.set(renderer);
    }

    /// Lends the slots for new deliveries. The first one stays.
    pub fn lend_delivery_slots(&self, delivery_slots: Arc<dyn DeliverySlots>) {
        let _ = self.shared.delivery_slots.set(delivery_slots);
    }

    /// Makes a subscription, unless the principal has as many as it may.
    pub async fn subscribe(&self, new: NewSubscription) -> Result<SubscribeOutcome, LedgerError> {
        let subscribed = self.submit(Subscribe { new }).await?;
        self.receivers_changed().await;
        Ok(subscribed)
    }

    /// Receivers have changed, durably: this node goes by that from here on, and the others
    /// are told to look.
    async fn receivers_changed(&self) {
        self.shared.hints.receivers_changed();
        if let Err(error) = on_store!(&self.shared.store, reader => publish::look(reader).await) {
            tracing::debug!(%error, "could not look for changed receivers");
        }
    }

    /// Whether a receiver has changed after that version ([`Receiver::changed`]), as far as
    /// this node knows: of what was changed through it at once, and of the rest within about
    /// a second.
    pub fn receiver_has_changed(&self, receiver: ReceiverKey, since: i64) -> bool {
        on_store!(&self.shared.store, reader => {
            reader.subscribers().index().has_changed(receiver, since)
        })
    }

    /// Changes, disables, enables or deletes a subscription.
    pub async fn change_subscription(
        &self,
        changing: SubscriptionUpdate,
    ) -> Result<UpdateOutcome, LedgerError> {
        let changed = self.submit(ChangeSubscription { changing }).await?;
        self.receivers_changed().await;
        Ok(changed)
    }

    /// A subscription; only this principal's, where there is one.
    pub async fn subscription(
        &self,
        principal: Option<&Principal>,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, LedgerError> {
        on_store!(&self.shared.store, reader => read::find(reader, principal, id).await)
    }

    /// Subscriptions, in the order in which they were made.
    pub async fn subscriptions(
        &self,
        listing: &SubscriptionListing,
    ) -> Result<Listed<Subscription, ReceiverKey>, LedgerError> {
        let found = on_store!(&self.shared.store, reader => read::list(reader, listing).await)?;
        page::tell(&self.shared, "subscriptions", &found.unread);
        Ok(found)
    }

    /// Adds keys; the others go on signing for a while.
    pub async fn rotate_keys(&self, rotation: KeyRotation) -> Result<RotationOutcome, LedgerError> {
        let rotated = self.submit(RotateKeys { rotation }).await?;
        self.receivers_changed().await;
        Ok(rotated)
    }

    /// The keys of an owner, the newest first; retired ones may be among them.
    pub async fn signing_keys(&self, owner: &KeyOwner) -> Result<Vec<StoredKey>, LedgerError> {
        on_store!(&self.shared.store, reader => read::keys(reader, owner).await)
    }

    /// Keys that sign with a pair, everybody's, in the order in which they were made and behind
    /// that number; retired ones may be among them.
    pub async fn published_keys(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Listed<PublishedKey, i64>, LedgerError> {
        let found = on_store!(&self.shared.store, reader => read::published_keys(reader, after, limit).await)?;
        page::tell(&self.shared, "keys", &found.unread);
        Ok(found)
    }

    /// The receiver that a principal's callbacks to an origin count as, if they have been
    /// asked for within [`USED`]; otherwise one is made with the next operation.
    pub async fn callbacks(
        &self,
        principal: &Principal,
        origin: &str,
        now: Timestamp,
    ) -> Result<Option<ReceiverKey>, LedgerError> {
        on_store!(&self.shared.store, reader => callback_receiver::find(reader, principal, origin, now).await)
    }

    /// A receiver as senders see it.
    pub async fn receiver(&self, key: ReceiverKey) -> Result<Option<Receiver>, LedgerError> {
        on_store!(&self.shared.store, reader => read::whom(reader, key).await)
    }

    /// Sends a test event to a subscription.
    pub async fn ping(
        &self,
        id: SubscriptionId,
        at: Timestamp,
    ) -> Result<RedeliveryOutcome, LedgerError> {
        self.submit(SendPing { id, at }).await
    }

    /// A page of deliveries, newest first, each with its attempts.
    pub async fn deliveries(&self, listing: &DeliveryListing) -> Result<DeliveryPage, LedgerError> {
        let page =
            on_store!(&self.shared.store, reader => read::deliveries(reader, listing).await)?;
        page::tell(&self.shared, "deliveries", &page.unread);
        Ok(page)
    }

    /// One delivery with its attempts.
    pub async fn delivery(
        &self,
        receiver: ReceiverKey,
        key: DeliveryKey,
    ) -> Result<Option<Delivery>, LedgerError> {
        on_store!(&self.shared.store, reader => read::one_delivery(reader, receiver, key).await)
    }

    /// Delivers once more what has come to its end or is held.
    pub async fn redeliver(
        &self,
        receiver: ReceiverKey,
        delivery: DeliveryKey,
        at: Timestamp,
    ) -> Result<RedeliveryOutcome, LedgerError> {
        self.submit(Redeliver { receiver, delivery, at }).await
    }

    /// One step of a replay.
    pub async fn replay(&self, step: ReplayStep) -> Result<ReplayStepOutcome, LedgerError> {
        self.submit(Replay { step }).await
    }

    /// One step of the oldest fan-out; false where there is none.
    pub async fn fan_out(&self) -> Result<bool, LedgerError> {
        // Most of the time there is none, and looking takes no transaction.
        if !on_store!(&self.shared.store, reader => read::fans(reader).await)? {
            return Ok(false);
        }
        self.submit(FanOutOnce).await
    }

    /// Completes when there may be a fan-out to carry on that this node has begun.
    pub async fn fans(&self) {
        self.shared.fans.notified().await;
    }

    /// The lanes of which a delivery may be due, the longest due first.
    pub fn due_deliveries(&self, now: Timestamp) -> Vec<DeliveryLane> {
        self.shared.due_index.due(now)
    }

    /// When the next delivery is due behind that instant, as far as this node knows.
    pub fn next_delivery(&self, after: Timestamp) -> Option<Timestamp> {
        self.shared.due_index.next(after)
    }

    /// Since when the next delivery of a lane has been due, as far as this node knows.
    pub fn delivery_due_since(&self, lane: DeliveryLane) -> Option<Timestamp> {
        self.shared.due_index.since(lane)
    }

    /// The principals of receivers, as this node knows them.
    pub fn owners(&self) -> Owners {
        on_store!(&self.shared.store, reader => reader.subscribers().owners())
    }

    /// Forgets what is due in a lane that is left to another node, until a caller looks
    /// again ([`Ledger::look_for_deliveries`]).
    pub fn pass_over(&self, lane: DeliveryLane) {
        self.shared.due_index.taken(lane);
    }

    /// Completes when a delivery came to be due that was not before.
    pub async fn delivery_is_due(&self) {
        self.shared.mail.notified().await;
    }

    /// Looks what others have made due; at the start, what is due at all.
    pub async fn look_for_deliveries(&self) -> Result<(), LedgerError> {
        let due = on_store!(&self.shared.store, reader => read::due(reader).await)?;
        if !due.is_empty() {
            self.shared.newly_due(due);
        }
        Ok(())
    }

    /// How many deliveries wait, on all nodes; at most so many are counted.
    pub async fn count_deliveries(
        &self,
        most: usize,
        now: Timestamp,
    ) -> Result<DeliveryCounts, LedgerError> {
        on_store!(&self.shared.store, reader => read::count(reader, most, now).await)
    }

    /// Hands out due deliveries.
    pub async fn claim_deliveries(
        &self,
        wants: Vec<DeliveryWant>,
        now: Timestamp,
    ) -> Result<Vec<ClaimedDeliveries>, LedgerError> {
        let lane =
            |want: &DeliveryWant| DeliveryLane { receiver: want.receiver, again: want.again };
        let lanes: Vec<_> = wants.iter().map(lane).collect();
        // What comes to be due from here on is noted anew.
        lanes.iter().for_each(|lane| self.shared.due_index.taken(*lane));
        let claimed = self.submit(ClaimDeliveries { wants, now }).await;
        match &claimed {
            Ok(claimed) => {
                for (lane, claimed) in lanes.iter().zip(claimed) {
                    claimed
                        .next_due
                        .iter()
                        .for_each(|due| self.shared.due_index.added(*lane, *due));
                }
            }
            Err(_) => lanes.iter().for_each(|lane| self.shared.due_index.added(*lane, now)),
        }
        let mut claimed = claimed?;
        let unread = claimed.iter_mut().flat_map(|it| std::mem::take(&mut it.unread)).collect();
        self.settle_unreadable(unread, now).await;
        Ok(claimed)
    }

    /// Settles deliveries that a claim met and could not read. Where that fails, they are this node's
    /// until they go back with all that this node does not send, and another claim meets them.
    async fn settle_unreadable(&self, unread: Vec<UnreadableDelivery>, now: Timestamp) {
        if unread.is_empty() {
            return;
        }
        let unread: Arc<[_]> = unread.into();
        match self.submit(SettleUnreadable { unread: Arc::clone(&unread), now }).await {
            Ok(()) => unreadable::tell(&self.shared, &unread),
            Err(error) => tracing::warn!(
                %error,
                "webhook deliveries that cannot be read are met again in a moment"
            ),
        }
    }

    /// Commits the ends of attempts to deliver, each told of its own fate, in their order.
    pub async fn settle_deliveries(
        &self,
        batch: Vec<DeliverySettlement>,
    ) -> Result<Vec<DeliverySettled>, LedgerError> {
        let batch: Arc<[_]> = batch.into();
        // Most of the time this is all, and no receiver has to be remembered otherwise.
        if batch.iter().all(|settlement| settlement.delivered().is_some()) {
            let delivered = SettleDelivered { batch: Arc::clone(&batch) };
            if let Some(settled) = self.submit(delivered).await? {
                return Ok(settled);
            }
        }
        self.submit(SettleDeliveries { batch }).await
    }

    /// What this node was handed to send, as far as the ledger knows.
    pub async fn sent_here(&self) -> Result<Vec<DeliveryLease>, LedgerError> {
        on_store!(&self.shared.store, reader => read::sent_here(reader, self.incarnation()).await)
    }

    /// Makes due again what nodes were sending that are gone, at most so many; says how
    /// many there were.
    pub async fn reclaim_deliveries(
        &self,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, LedgerError> {
        let mut nodes = on_store!(&self.shared.store, reader => read::strays(reader, self.incarnation()).await)?;
        nodes.extend(self.shared.dead().iter().map(|dead| dead.incarnation));
        nodes.sort_unstable();
        nodes.dedup();
        let mut taken = 0;
        for node in nodes {
            taken += self.submit(ReclaimDeliveries { node, limit, now }).await?;
        }
        Ok(taken)
    }

    /// Holds what is due for a receiver that takes nothing, or drops it if the receiver is
    /// gone; at most so many. Says how many there were.
    pub async fn hold_deliveries(
        &self,
        receiver: ReceiverKey,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, LedgerError> {
        self.submit(HoldDeliveries { receiver, limit, now }).await
    }

    /// Ends what has been due in a lane beyond its deadline, at most so many, and tells of
    /// it as of any delivery that was given up. Says which messages these were.
    pub async fn expire_deliveries(
        &self,
        lane: DeliveryLane,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<String>, LedgerError> {
        self.submit(ExpireDeliveries { lane, limit, now }).await
    }

    /// Puts away deliveries that have been over since before `over`, and drops what has
    /// been held since before `held`; at most `limit` of each.
    pub async fn prune_deliveries(
        &self,
        limit: usize,
        held: Timestamp,
        over: Timestamp,
        now: Timestamp,
    ) -> Result<PrunedDeliveries, LedgerError> {
        self.submit(PruneDeliveries { limit, held, over, now }).await
    }
}
