//! JSON documents of subscriptions, deliveries and keys.
//!
//! Owns the members and which of them is null when. Secrets are in none of them but
//! [`SecretDocument`], which is shown once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;

use super::context::WebhookContext;
use cloakroom_domain::Timestamp;
use cloakroom_domain::webhooks::PublicKey;
use cloakroom_ledger::{
    AttemptRecord, Delivery, DeliveryEnd, DeliveryState, StoredKey, Subscription,
    SubscriptionSettings, SubscriptionState,
};

/// A subscription: a receiver and the events that it gets.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct SubscriptionDocument {
    /// Its id, a UUID.
    id: String,
    /// The principal that owns it; on the admin listener only.
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    /// Where messages go.
    url: String,
    /// The events that it gets.
    events: Vec<&'static str>,
    /// Only of these routes; of every one where there is none.
    routes: Vec<String>,
    /// Only with one of these tags; with and without where there is none.
    tags: Vec<String>,
    /// The names of the headers that every delivery gets. Their values are not shown.
    header_names: Vec<String>,
    /// A description by its owner.
    description: Option<String>,
    /// How messages are wrapped.
    #[schema(examples("standard", "cloudevents"))]
    format: &'static str,
    /// Whether it is told: `active`; `unverified` until its receiver has agreed; `disabled`.
    /// Deliveries are held for 30 days while it is not active.
    #[schema(examples("active", "unverified", "disabled"))]
    status: &'static str,
    /// Whether the receiver at its URL is asked first: `cloudevents`; `none`.
    #[schema(examples("none", "cloudevents"))]
    verification: &'static str,
    /// How many deliveries in a minute its receiver allowed when it was asked, which are kept to;
    /// null where it named no limit, or was not asked.
    allowed_rate: Option<u32>,
    /// Since when it is disabled.
    #[schema(format = DateTime)]
    disabled_at: Option<String>,
    /// Why it is disabled: the receiver answered 410, it failed for 5 days, or a caller
    /// asked for it.
    #[schema(examples("gone", "failing", "asked"))]
    disabled_for: Option<&'static str>,
    /// Since when nothing has been delivered that was tried.
    #[schema(format = DateTime)]
    failing_since: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was changed last: what is set, or whether it is told.
    #[schema(format = DateTime)]
    changed_at: String,
    /// The keys that sign its messages, the newest first. Null in a list.
    keys: Option<Vec<KeyDocument>>,
    /// Where its resources are.
    links: SubscriptionLinks,
}

/// Where a subscription's resources are.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::api) struct SubscriptionLinks {
    /// The subscription.
    #[serde(rename = "self")]
    own: String,
    /// Its deliveries.
    deliveries: String,
}

/// A key that messages are signed with.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct KeyDocument {
    /// Names the key: in `webhook-key-id` of what it signs, and as `kid` among public keys.
    id: String,
    /// `v1`: HMAC-SHA256 with a shared secret; `v1a`: Ed25519.
    #[schema(examples("v1", "v1a"))]
    signature: &'static str,
    /// The half of a `v1a` key that verifies, `whpk_…`.
    public_key: Option<String>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it signs beside newer ones; null while it is the current one.
    #[schema(format = DateTime)]
    retires_at: Option<String>,
}

/// The new secret or public key, shown this once; never in a log.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct SecretDocument {
    /// The shared secret, `whsec_…`; null where none was made.
    pub(super) secret: Option<String>,
    /// The public key that verifies `v1a` signatures, `whpk_…`; null where no pair was made.
    pub(super) public_key: Option<String>,
}

/// A new subscription.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::api) struct NewSubscriptionDocument {
    #[serde(flatten)]
    pub(super) subscription: SubscriptionDocument,
    #[serde(flatten)]
    pub(super) secret: SecretDocument,
}

/// Keys, and the new ones among them.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::api) struct RotationDocument {
    #[serde(flatten)]
    pub(super) secret: SecretDocument,
    /// All that sign now, the newest first.
    pub(super) keys: Vec<KeyDocument>,
}

/// The keys of a principal's callbacks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::api) struct CallbackKeys {
    /// The keys, the newest first; none before the first callback or the first `POST`.
    pub(super) keys: Vec<KeyDocument>,
}

/// Subscriptions, in the order in which they were made.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SubscriptionList {
    pub(super) subscriptions: Vec<SubscriptionDocument>,
    pub(super) links: PageLinks,
}

/// Deliveries, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DeliveryList {
    /// The deliveries; may be fewer than asked for while there are more to come.
    pub(super) deliveries: Vec<DeliveryDocument>,
    pub(super) links: PageLinks,
}

/// Where a list goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PageLinks {
    /// The next page; null at the end.
    pub(super) next: Option<String>,
}

/// One message on its way to one receiver.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct DeliveryDocument {
    /// Names it among those of its subscription.
    number: String,
    /// Where it goes; of callbacks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// `webhook-id`: the same for all deliveries of one event.
    message: String,
    /// The event.
    #[schema(examples("operation.succeeded", "webhook.ping"))]
    event: &'static str,
    /// The id of the operation that it is about, as long as that is known.
    operation: Option<String>,
    /// Why there is one: an event, a ping, or a request for
    /// it once more.
    #[schema(examples("event", "ping", "replay"))]
    cause: &'static str,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// `pending`: another attempt is due; `sending`; `held` for a subscription that is not
    /// active; `delivered`; `exhausted`: no attempt or no time was left; `gone`: the
    /// receiver wanted no more; `replayed`: another delivery took its place; `dropped`.
    #[schema(examples("pending", "delivered", "exhausted"))]
    status: &'static str,
    /// When the next attempt is due.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
    /// Since when it is held.
    #[schema(format = DateTime)]
    held_at: Option<String>,
    /// When it came to its end.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// How many attempts have begun.
    attempts_begun: u32,
    /// The attempts, the first one first.
    attempts: Vec<AttemptDocument>,
    /// Where it is; of subscriptions only.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<DeliveryLinks>,
}

/// Where a delivery's resources are.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::api) struct DeliveryLinks {
    /// The delivery.
    #[serde(rename = "self")]
    own: String,
}

/// One attempt to deliver.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct AttemptDocument {
    /// Counts from 1.
    number: u32,
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    /// How long it took, in milliseconds.
    duration_ms: u64,
    /// The receiver's status, where there was an answer.
    status: Option<u16>,
    /// The error code; null where it was delivered.
    #[schema(examples("status", "timeout", "tls-failed", "refused-address"))]
    code: Option<String>,
    /// When the next one is due.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
}

/// Public keys, as a JWK set (RFC 7517) with further members.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PublicKeys {
    /// The keys.
    pub(super) keys: Vec<PublicKeyDocument>,
    pub(super) links: PageLinks,
}

/// A public key that verifies `v1a` signatures, as a JWK (RFC 8037) with further members.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct PublicKeyDocument {
    /// `OKP`.
    kty: &'static str,
    /// `Ed25519`.
    crv: &'static str,
    /// `EdDSA`.
    alg: &'static str,
    /// `sig`.
    #[serde(rename = "use")]
    usage: &'static str,
    /// Names the key, as `webhook-key-id` of what it signs does.
    kid: String,
    /// The key itself, in base64url.
    x: String,
    /// The same as Standard Webhooks writes it, `whpk_…`.
    public_key: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    usage_of: Option<KeyUse>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it signs beside newer ones.
    #[schema(format = DateTime)]
    retires_at: Option<String>,
}

/// The use of a key; shown to its owner only.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct KeyUse {
    /// The id of the subscription whose messages it verifies; null for callbacks.
    pub(super) subscription: Option<String>,
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(Timestamp::rfc3339)
}

impl SubscriptionDocument {
    /// A subscription as it stands; `header_names` of the fields that it has.
    pub(super) fn of(
        context: &WebhookContext,
        subscription: &Subscription,
        header_names: Vec<String>,
        keys: Option<Vec<KeyDocument>>,
    ) -> Self {
        let SubscriptionSettings { url, topics, routes, tags, description, format, .. } =
            &subscription.settings;
        let disabled = match subscription.state {
            SubscriptionState::Disabled { at, why } => Some((at, why)),
            SubscriptionState::Active | SubscriptionState::Unverified => None,
        };
        let id = subscription.id;
        Self {
            id: id.to_string(),
            principal: context.shown(&subscription.principal),
            url: url.clone(),
            events: topics.iter().map(cloakroom_domain::webhooks::Topic::as_str).collect(),
            routes: routes.clone(),
            tags: tags.clone(),
            header_names,
            description: description.clone(),
            format: format.as_str(),
            status: subscription.state.as_str(),
            verification: if subscription.asks { "cloudevents" } else { "none" },
            allowed_rate: subscription.allowed_rate,
            disabled_at: text(disabled.map(|(at, _)| at)),
            disabled_for: disabled.map(|(_, why)| why.as_str()),
            failing_since: text(subscription.failing_since),
            created_at: subscription.created_at.rfc3339(),
            changed_at: subscription.changed_at.rfc3339(),
            keys,
            links: SubscriptionLinks {
                own: context.url(id),
                deliveries: context.url(format_args!("{id}/deliveries")),
            },
        }
    }
}

impl KeyDocument {
    pub(super) fn of(key: &StoredKey, public: Option<&PublicKey>) -> Self {
        Self {
            id: key.number.to_string(),
            signature: key.kind.as_str(),
            public_key: public.map(ToString::to_string),
            created_at: key.made_at.rfc3339(),
            retires_at: text(key.retires_at),
        }
    }
}

impl PublicKeyDocument {
    pub(super) fn of(key: &StoredKey, public: &PublicKey, usage_of: Option<KeyUse>) -> Self {
        Self {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            usage: "sig",
            kid: key.number.to_string(),
            x: URL_SAFE_NO_PAD.encode(public.octets()),
            public_key: public.to_string(),
            usage_of,
            created_at: key.made_at.rfc3339(),
            retires_at: text(key.retires_at),
        }
    }
}

impl DeliveryDocument {
    /// One to a subscription.
    pub(super) fn of(
        context: &WebhookContext,
        subscription: &Subscription,
        delivery: &Delivery,
    ) -> Self {
        let (id, number) = (subscription.id, delivery.key);
        let own = context.url(format_args!("{id}/deliveries/{number}"));
        Self { links: Some(DeliveryLinks { own }), ..Self::of_callback(delivery) }
    }

    /// One of the callback of an operation.
    pub(super) fn of_callback(delivery: &Delivery) -> Self {
        let (mut due, mut held, mut ended) = (None, None, None);
        let status = match delivery.state {
            DeliveryState::Due { at } => {
                due = Some(at);
                "pending"
            }
            DeliveryState::Sending { .. } => "sending",
            DeliveryState::Held { since } => {
                held = Some(since);
                "held"
            }
            DeliveryState::Ended { how, at } => {
                ended = Some(at);
                DeliveryEnd::as_str(how)
            }
        };
        Self {
            number: delivery.key.to_string(),
            url: delivery.url.clone(),
            message: delivery.message.clone(),
            event: delivery.topic.as_str(),
            operation: delivery.operation.map(|id| id.to_string()),
            cause: delivery.cause.as_str(),
            created_at: delivery.created_at.rfc3339(),
            status,
            next_attempt_at: text(due),
            held_at: text(held),
            ended_at: text(ended),
            attempts_begun: delivery.attempts,
            attempts: delivery.log.iter().map(AttemptDocument::of).collect(),
            links: None,
        }
    }

    /// Where it is; nowhere of its own where it is a callback's.
    pub(super) fn location(&self) -> Option<&str> {
        self.links.as_ref().map(|links| links.own.as_str())
    }
}

impl AttemptDocument {
    fn of(attempt: &AttemptRecord) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at.rfc3339(),
            duration_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
            status: attempt.status,
            code: attempt.code.clone(),
            next_attempt_at: text(attempt.next_at),
        }
    }
}
