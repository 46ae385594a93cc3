//! Messages to receivers, and their author.

use bytes::Bytes;

use crate::model::Operation;
use crate::webhooks::model::Subscription;
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::Topic;

/// The format of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As Standard Webhooks says.
    Standard,
    /// As a cloud event in structured mode.
    CloudEvents,
}

impl Format {
    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::CloudEvents => "cloudevents",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Standard, Self::CloudEvents].into_iter().find(|format| format.as_str() == name)
    }
}

/// A message to a receiver.
#[derive(Clone, Debug)]
pub struct Message {
    /// `webhook-id`.
    pub name: String,
    /// The body.
    pub body: Bytes,
}

/// Renders messages to receivers. The ledger is lent one, calls it inside the transaction of the
/// event, and stores the message.
pub trait MessageRenderer: Send + Sync + 'static {
    /// About an operation as it stands after its event number `sequence`. Links are built
    /// on `public_base` where the node itself has nothing better.
    fn about_operation(
        &self,
        topic: Topic,
        operation: &Operation,
        sequence: u32,
        at: Timestamp,
        public_base: Option<&str>,
    ) -> Message;

    /// About a subscription, and a delivery to it where it is about one.
    fn about_subscription(
        &self,
        topic: Topic,
        subscription: &Subscription,
        delivery: Option<&str>,
        at: Timestamp,
    ) -> Message;
}
