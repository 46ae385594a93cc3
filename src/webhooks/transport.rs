//! The HTTP transport: sends deliveries of the ledger to their receivers.
//!
//! Owns the opening of sealed secrets and the format of messages. Its invariant: a delivery has
//! the same octets on every attempt. It must not know when attempts are made.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::sender::{Target, WebhookSender};
use super::signer::{SigningKeys, WebhookMessage};
use super::{DeliveryAttemptResult, DeliveryTransport};
use cloakroom_domain::Timestamp;
use cloakroom_domain::sealing::{Keyring, SealingError};
use cloakroom_domain::ticket::LedgerNumber;
use cloakroom_domain::webhooks::cloud_event::{self, CloudEvent};
use cloakroom_domain::webhooks::secret_storage::{self, SecretOwner};
use cloakroom_domain::webhooks::{DeliveryError, ReceiverAnswer};
use cloakroom_ledger::{Format, LeasedDelivery, Receiver};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const CLOUD_EVENT: HeaderValue = HeaderValue::from_static(cloud_event::CONTENT_TYPE);

/// Sends deliveries of the ledger over HTTP.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    sender: WebhookSender,
    keyring: Keyring,
    ledger: LedgerNumber,
}

/// A receiver whose keys and fields are open.
#[derive(Debug)]
pub enum Address {
    /// That of a subscription, which has one URL: where to, and how it is signed.
    Subscription(Target),
    /// That of callbacks, each of which has its own URL.
    Callbacks(Box<Receiver>),
}

impl HttpTransport {
    /// A transport that sends with `sender`, for the ledger of that number, and opens its secrets
    /// with these keys.
    pub const fn new(sender: WebhookSender, keyring: Keyring, ledger: LedgerNumber) -> Self {
        Self { sender, keyring, ledger }
    }

    fn target(&self, receiver: &Receiver, url: &str) -> Result<Target, SealingError> {
        let whose = match &receiver.subscription {
            Some(id) => SecretOwner::Subscription(id),
            None => SecretOwner::Callbacks(&receiver.principal),
        };
        let open = |stored: &Bytes| secret_storage::open_fields(&self.keyring, whose, stored);
        let fields = receiver.headers.as_ref().map(open).transpose()?;
        let keys = receiver.keys.iter();
        let keys = keys.map(|key| secret_storage::open_key(&self.keyring, whose, &key.sealed));
        Ok(Target {
            url: url.to_owned(),
            fields: fields.unwrap_or_else(HeaderMap::new),
            signers: SigningKeys {
                keys: keys.collect::<Result<_, _>>()?,
                names: receiver.keys.iter().map(|key| key.number.to_string()).collect(),
            },
        })
    }

    fn message(&self, delivery: &LeasedDelivery) -> Option<WebhookMessage> {
        let (body, content_type) = match delivery.format {
            Format::Standard => (delivery.body.clone(), JSON),
            Format::CloudEvents => {
                let event = CloudEvent {
                    id: &delivery.message,
                    kind: delivery.topic.as_str(),
                    time: delivery.at,
                    ledger: self.ledger,
                    data: told(&delivery.body),
                };
                (cloud_event::structured(&event).into(), CLOUD_EVENT)
            }
        };
        WebhookMessage::new(&*delivery.message, body, content_type).ok()
    }
}

/// The `data` of a message: a cloud event carries the other members in its own attributes.
fn told(body: &[u8]) -> &[u8] {
    #[derive(Deserialize)]
    struct EventBody<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    serde_json::from_slice::<EventBody<'_>>(body).map_or(body, |body| body.data.get().as_bytes())
}

impl DeliveryTransport for HttpTransport {
    type Address = Address;

    fn address(&self, receiver: &Receiver) -> Result<Address, String> {
        let target = self.target(receiver, &receiver.url).map_err(|error| error.to_string())?;
        Ok(match receiver.subscription {
            Some(_) => Address::Subscription(target),
            None => Address::Callbacks(Box::new(receiver.clone())),
        })
    }

    async fn send(
        &self,
        address: &Address,
        delivery: &LeasedDelivery,
        now: Timestamp,
    ) -> Option<ReceiverAnswer> {
        let callback;
        let target = match address {
            Address::Subscription(target) => target,
            Address::Callbacks(receiver) => {
                let url = delivery.url.as_deref().unwrap_or(&receiver.url);
                // It opened when the address was made.
                let Ok(target) = self.target(receiver, url) else { return Some(REFUSED) };
                callback = target;
                &callback
            }
        };
        let Some(message) = self.message(delivery) else { return Some(REFUSED) };
        let DeliveryAttemptResult { status, error, detail, retry_after, is_cut, is_own, .. } =
            self.sender.send(&message, target, now).await;
        if let Some(error) = error {
            let (receiver, webhook_id) = (delivery.receiver, &*delivery.message);
            tracing::debug!(%receiver, webhook_id, code = error.as_str(), detail, "not delivered");
        }
        (!is_own).then_some(ReceiverAnswer { status, error, retry_after, is_cut })
    }
}

/// The result of a delivery that cannot be sent as it is stored.
const REFUSED: ReceiverAnswer = ReceiverAnswer {
    status: None,
    error: Some(DeliveryError::RefusedUrl),
    retry_after: None,
    is_cut: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_event_carries_what_a_message_tells_digit_by_digit() {
        let body = br#"{"type":"a","timestamp":"b","data":{"big":12345678901234567890.10}}"#;
        assert_eq!(told(body), br#"{"big":12345678901234567890.10}"#);
        assert_eq!(told(b"no json"), b"no json");
    }
}
