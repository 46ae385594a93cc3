//! The verbs of webhooks inside one writing transaction, of whichever engine.

use async_trait::async_trait;

use super::announce::{self, Announcement, NewlyDue};
use super::sql::SqlTransaction;
use super::unread::UnreadDelivery;
use super::{
    Changed, Changing, ClaimedDeliveries, DeliveryKey, DeliveryLane, DeliverySettled,
    DeliverySettlement, DeliveryWant, NewSubscription, PrunedDeliveries, Redelivered, ReplayStep,
    Replayed, Rotated, Rotation, Scribe, Subscribed, SubscriptionId, fanning, replaying, sending,
    subscriptions,
};
use crate::commit::handoff::Outbox;
use crate::error::LedgerError;
use crate::resealing::{self, ResealCursor, Resealed};
use crate::sealing_keys;
use crate::store::Batch;
use cloakroom_domain::Timestamp;
use cloakroom_domain::sealing::KeyId;
use cloakroom_domain::webhooks::ReceiverKey;

/// The verbs of webhooks inside one transaction.
#[async_trait]
pub(crate) trait Deliveries: Send {
    /// Gives what happened in this transaction to those who are to be told.
    async fn announce(
        &mut self,
        scribe: &dyn Scribe,
        outbox: Option<&dyn Outbox>,
    ) -> Result<Announcement, LedgerError>;
    async fn subscribe(&mut self, new: &NewSubscription) -> Result<Subscribed, LedgerError>;
    async fn change(
        &mut self,
        changing: &Changing,
        scribe: OptionalScribe<'_>,
    ) -> Result<(Changed, NewlyDue), LedgerError>;
    async fn rotate(&mut self, rotation: &Rotation) -> Result<Rotated, LedgerError>;
    async fn ping(
        &mut self,
        id: SubscriptionId,
        at: Timestamp,
        scribe: OptionalScribe<'_>,
    ) -> Result<(Redelivered, NewlyDue), LedgerError>;
    async fn redeliver(
        &mut self,
        receiver: ReceiverKey,
        delivery: DeliveryKey,
        at: Timestamp,
    ) -> Result<(Redelivered, NewlyDue), LedgerError>;
    async fn replay(&mut self, step: &ReplayStep) -> Result<(Replayed, NewlyDue), LedgerError>;
    async fn fan_out(&mut self) -> Result<Option<NewlyDue>, LedgerError>;
    async fn claim(&mut self, wants: &[DeliveryWant], now: Timestamp) -> Batch<ClaimedDeliveries>;
    async fn settle(
        &mut self,
        batch: &[DeliverySettlement],
        scribe: OptionalScribe<'_>,
    ) -> Result<(Vec<DeliverySettled>, NewlyDue), LedgerError>;
    async fn settle_delivered(
        &mut self,
        batch: &[DeliverySettlement],
    ) -> Result<Option<Vec<DeliverySettled>>, LedgerError>;
    async fn take_back(
        &mut self,
        node: i64,
        limit: usize,
        now: Timestamp,
    ) -> Result<(usize, NewlyDue), LedgerError>;
    async fn see_to_unread(
        &mut self,
        unread: &[UnreadDelivery],
        now: Timestamp,
    ) -> Result<NewlyDue, LedgerError>;
    async fn put_aside(
        &mut self,
        receiver: ReceiverKey,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, LedgerError>;
    async fn give_up_late(
        &mut self,
        lane: DeliveryLane,
        limit: usize,
        now: Timestamp,
        scribe: OptionalScribe<'_>,
    ) -> Result<(Vec<String>, NewlyDue), LedgerError>;
    async fn prune_deliveries(
        &mut self,
        limit: usize,
        held: Timestamp,
        over: Timestamp,
        now: Timestamp,
    ) -> Result<PrunedDeliveries, LedgerError>;
    /// Seals anew what lies open or under an earlier key, one part of a walk.
    async fn reseal(&mut self, cursor: ResealCursor) -> Result<Resealed, LedgerError>;
    /// Forgets keys that nothing lies under.
    async fn forget_keys(&mut self, began: Timestamp) -> Result<Vec<KeyId>, LedgerError>;
}

/// Who writes what receivers are told, where there is one.
pub(crate) type OptionalScribe<'a> = Option<&'a dyn Scribe>;

#[async_trait]
impl<W: SqlTransaction> Deliveries for W {
    async fn announce(
        &mut self,
        scribe: &dyn Scribe,
        outbox: Option<&dyn Outbox>,
    ) -> Result<Announcement, LedgerError> {
        announce::announce(self, scribe, outbox).await
    }

    async fn subscribe(&mut self, new: &NewSubscription) -> Result<Subscribed, LedgerError> {
        subscriptions::subscribe(self, new).await
    }

    async fn change(
        &mut self,
        changing: &Changing,
        scribe: OptionalScribe<'_>,
    ) -> Result<(Changed, NewlyDue), LedgerError> {
        subscriptions::change(self, changing, scribe).await
    }

    async fn rotate(&mut self, rotation: &Rotation) -> Result<Rotated, LedgerError> {
        subscriptions::rotate(self, rotation).await
    }

    async fn ping(
        &mut self,
        id: SubscriptionId,
        at: Timestamp,
        scribe: OptionalScribe<'_>,
    ) -> Result<(Redelivered, NewlyDue), LedgerError> {
        subscriptions::ping(self, id, at, scribe).await
    }

    async fn redeliver(
        &mut self,
        receiver: ReceiverKey,
        delivery: DeliveryKey,
        at: Timestamp,
    ) -> Result<(Redelivered, NewlyDue), LedgerError> {
        replaying::redeliver(self, receiver, delivery, at).await
    }

    async fn replay(&mut self, step: &ReplayStep) -> Result<(Replayed, NewlyDue), LedgerError> {
        replaying::replay(self, step).await
    }

    async fn fan_out(&mut self) -> Result<Option<NewlyDue>, LedgerError> {
        fanning::fan_out(self).await
    }

    async fn claim(&mut self, wants: &[DeliveryWant], now: Timestamp) -> Batch<ClaimedDeliveries> {
        self.claim_deliveries(wants, now).await
    }

    async fn settle(
        &mut self,
        batch: &[DeliverySettlement],
        scribe: OptionalScribe<'_>,
    ) -> Result<(Vec<DeliverySettled>, NewlyDue), LedgerError> {
        sending::settle(self, batch, scribe).await
    }

    async fn settle_delivered(
        &mut self,
        batch: &[DeliverySettlement],
    ) -> Result<Option<Vec<DeliverySettled>>, LedgerError> {
        sending::settle_delivered(self, batch).await
    }

    async fn take_back(
        &mut self,
        node: i64,
        limit: usize,
        now: Timestamp,
    ) -> Result<(usize, NewlyDue), LedgerError> {
        sending::take_back(self, node, limit, now).await
    }

    async fn see_to_unread(
        &mut self,
        unread: &[UnreadDelivery],
        now: Timestamp,
    ) -> Result<NewlyDue, LedgerError> {
        sending::see_to_unread(self, unread, now).await
    }

    async fn put_aside(
        &mut self,
        receiver: ReceiverKey,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, LedgerError> {
        sending::put_aside(self, receiver, limit, now).await
    }

    async fn give_up_late(
        &mut self,
        lane: DeliveryLane,
        limit: usize,
        now: Timestamp,
        scribe: OptionalScribe<'_>,
    ) -> Result<(Vec<String>, NewlyDue), LedgerError> {
        sending::give_up_late(self, lane, limit, now, scribe).await
    }

    async fn prune_deliveries(
        &mut self,
        limit: usize,
        held: Timestamp,
        over: Timestamp,
        now: Timestamp,
    ) -> Result<PrunedDeliveries, LedgerError> {
        replaying::prune(self, limit, held, over, now).await
    }

    async fn reseal(&mut self, cursor: ResealCursor) -> Result<Resealed, LedgerError> {
        resealing::step(self, cursor).await
    }

    async fn forget_keys(&mut self, began: Timestamp) -> Result<Vec<KeyId>, LedgerError> {
        sealing_keys::forget(self, began).await
    }
}
