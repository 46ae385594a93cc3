//! Reads of webhooks, on either backend.

use async_trait::async_trait;

use super::sql::SqlReader;
use super::{
    Delivery, DeliveryCounts, DeliveryKey, DeliveryLane, DeliveryLease, DeliveryListing,
    DeliveryPage, KeyOwner, Owners, PublishedKey, Receiver, SigningKey, Subscription,
    SubscriptionId, SubscriptionListing, announce, calling, showing,
};
use crate::error::LedgerError;
use crate::listed::Listed;
use crate::store::Batch;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_domain::{Principal, Timestamp};

/// What is read about webhooks.
#[async_trait]
pub(crate) trait ReadsDeliveries: Send + Sync {
    async fn subscription(
        &self,
        principal: Option<&Principal>,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, LedgerError>;
    async fn subscriptions(
        &self,
        listing: &SubscriptionListing,
    ) -> Result<Listed<Subscription, ReceiverKey>, LedgerError>;
    async fn keys(&self, owner: &KeyOwner) -> Batch<SigningKey>;
    async fn published_keys(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Listed<PublishedKey, i64>, LedgerError>;
    async fn callbacks(
        &self,
        principal: &Principal,
        origin: &str,
        now: Timestamp,
    ) -> Result<Option<ReceiverKey>, LedgerError>;
    async fn whom(&self, key: ReceiverKey) -> Result<Option<Receiver>, LedgerError>;
    async fn deliveries(&self, listing: &DeliveryListing) -> Result<DeliveryPage, LedgerError>;
    async fn delivery(
        &self,
        receiver: ReceiverKey,
        key: DeliveryKey,
    ) -> Result<Option<Delivery>, LedgerError>;
    async fn due(&self) -> Batch<(DeliveryLane, Timestamp)>;
    async fn count(&self, most: usize, now: Timestamp) -> Result<DeliveryCounts, LedgerError>;
    fn owners(&self) -> Owners;
    fn has_changed(&self, receiver: ReceiverKey, since: i64) -> bool;
    /// Brings what this node remembers of receivers up to date.
    async fn look(&self) -> Result<(), LedgerError>;
    async fn fans(&self) -> Result<bool, LedgerError>;
    async fn sent_here(&self, node: i64) -> Batch<DeliveryLease>;
    async fn strays(&self, node: i64) -> Batch<i64>;
}

#[async_trait]
impl<A: SqlReader> ReadsDeliveries for A {
    async fn subscription(
        &self,
        principal: Option<&Principal>,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, LedgerError> {
        showing::find(self, principal, id).await
    }

    async fn subscriptions(
        &self,
        listing: &SubscriptionListing,
    ) -> Result<Listed<Subscription, ReceiverKey>, LedgerError> {
        showing::list(self, listing).await
    }

    async fn keys(&self, owner: &KeyOwner) -> Batch<SigningKey> {
        showing::keys(self, owner).await
    }

    async fn published_keys(
        &self,
        after: i64,
        limit: usize,
    ) -> Result<Listed<PublishedKey, i64>, LedgerError> {
        showing::published_keys(self, after, limit).await
    }

    async fn callbacks(
        &self,
        principal: &Principal,
        origin: &str,
        now: Timestamp,
    ) -> Result<Option<ReceiverKey>, LedgerError> {
        calling::find(self, principal, origin, now).await
    }

    async fn whom(&self, key: ReceiverKey) -> Result<Option<Receiver>, LedgerError> {
        showing::whom(self, key).await
    }

    async fn deliveries(&self, listing: &DeliveryListing) -> Result<DeliveryPage, LedgerError> {
        showing::deliveries(self, listing).await
    }

    async fn delivery(
        &self,
        receiver: ReceiverKey,
        key: DeliveryKey,
    ) -> Result<Option<Delivery>, LedgerError> {
        showing::one_delivery(self, receiver, key).await
    }

    async fn due(&self) -> Batch<(DeliveryLane, Timestamp)> {
        showing::due(self).await
    }

    async fn count(&self, most: usize, now: Timestamp) -> Result<DeliveryCounts, LedgerError> {
        showing::count(self, most, now).await
    }

    fn owners(&self) -> Owners {
        self.subscribers().owners()
    }

    fn has_changed(&self, receiver: ReceiverKey, since: i64) -> bool {
        self.subscribers().index().has_changed(receiver, since)
    }

    async fn look(&self) -> Result<(), LedgerError> {
        announce::look(self).await
    }

    async fn fans(&self) -> Result<bool, LedgerError> {
        showing::fans(self).await
    }

    async fn sent_here(&self, node: i64) -> Batch<DeliveryLease> {
        showing::sent_here(self, node).await
    }

    async fn strays(&self, node: i64) -> Batch<i64> {
        showing::strays(self, node).await
    }
}
