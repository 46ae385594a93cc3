//! `POST /webhooks/{id}/rotate`: replaces the signing keys. The new keys sign at once; the
//! former keys sign beside them for a grace period.
//!
//! Without a kind, every kind that signs permanently is replaced. A kind that did not sign before
//! replaces the other kind, unless the request keeps both.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use super::context::{NO_SUBSCRIPTION, SubscriptionPath, WebhookContext, id};
use super::document::RotationDocument;
use super::signing::{self, KeyRequest, MOST};
use super::subscription_view::may_be_changed;
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use crate::api::{Problem, response};
use cloakroom_domain::webhooks::SigningKey;
use cloakroom_domain::webhooks::secret_storage::SecretOwner;
use cloakroom_ledger::{KeyKind, KeyOwner, KeyRotation, RotationOutcome};
use serde_json::{Value, json};

/// How long former keys sign on unless told, in seconds; and how long they may at most.
const USUAL_GRACE: u64 = 24 * 3600;
const LONGEST_GRACE: u64 = 30 * 24 * 3600;

pub(super) const KNOWN: [&str; 3] = ["grace", "signature", "secret"];

/// The policy for the former keys.
pub(super) struct FormerKeys {
    /// How long they sign on at most.
    pub(super) grace: Duration,
    /// Whether that is only for those of the kinds that are made.
    pub(super) beside: bool,
}

pub(super) async fn rotate(
    path: SubscriptionPath,
    mut members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&[&KNOWN[..], &["beside"]].concat())?;
    let SubscriptionPath { context, subscription } = path;
    let wish = KeyRequest::read(&mut members)?;
    let grace = grace(&mut members)?;
    let beside = members.truth("beside")?;
    let owner = KeyOwner::Receiver(subscription.receiver);
    let usual = for_good(&context.ledger().signing_keys(&owner).await?);
    let signs_already = wish.kind().is_some_and(|kind| usual.contains(&kind));
    let former = FormerKeys { grace, beside: beside.unwrap_or(signs_already) };
    let keys = wish.keys(&usual)?;
    may_be_changed(&context, &subscription)?;
    let whose = SecretOwner::Subscription(&subscription.id);
    let document = add(&context, owner, whose, &keys, former).await?;
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &document))
}

/// The kinds that sign permanently.
fn for_good(keys: &[cloakroom_ledger::StoredKey]) -> Vec<KeyKind> {
    let signs =
        |kind: &KeyKind| keys.iter().any(|key| key.kind == *kind && key.retires_at.is_none());
    KeyKind::BOTH.into_iter().filter(signs).collect()
}

/// Reads `grace`, in seconds.
pub(super) fn grace(members: &mut JsonObject) -> Result<Duration, Problem> {
    let seconds = members.whole("grace", 0..=LONGEST_GRACE)?;
    Ok(Duration::from_secs(seconds.unwrap_or(USUAL_GRACE)))
}

/// Adds keys; shows them, this once, and all that sign now.
pub(super) async fn add(
    context: &WebhookContext,
    owner: KeyOwner,
    whose: SecretOwner<'_>,
    keys: &[SigningKey],
    former: FormerKeys,
) -> Result<RotationDocument, Problem> {
    let sealed = keys.iter().map(|key| signing::sealed(context.settings(), whose, key));
    let rotation = KeyRotation {
        owner: owner.clone(),
        keys: sealed.collect::<Result<_, _>>()?,
        beside: former.beside,
        grace: former.grace,
        most: MOST,
        at: context.now(),
    };
    match context.ledger().rotate_keys(rotation).await? {
        RotationOutcome::Done => {}
        RotationOutcome::TooMany => return Err(Problem::too_many_keys(MOST)),
    }
    let all = context.ledger().signing_keys(&owner).await?;
    let all = signing::live(all, context.now());
    let all = signing::shown(context.settings(), whose, &all)?;
    Ok(RotationDocument { secret: signing::secret(keys), keys: all })
}

pub(super) fn description() -> Description {
    let mut body = schema();
    body["properties"]["beside"] = json!({
        "type": ["boolean", "null"],
        "description": "Whether the other kind is left to sign as it does. Unless said: where \
                        the kind of the new key was said and signs already, and not where it \
                        takes the place of the other.",
    });
    let says = "The new keys, this once, and all that sign.";
    Description::new(Tag::Webhooks, "rotateSecret", "Make new keys")
        .at([id()])
        .takes(false, "Rotation", body)
        .replies(200, ResponseDoc::json::<RotationDocument>(says))
        .conditional()
        .refuses(&[NO_SUBSCRIPTION, (409, "More keys would sign than may."), TOO_LARGE, NO_JSON])
}

/// A rotation of keys, as a schema.
pub(super) fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {
            "grace": {
                "type": ["integer", "null"],
                "minimum": 0, "maximum": LONGEST_GRACE, "default": USUAL_GRACE,
                "description": "For how many seconds former keys sign on at most, 0 for not at \
                                all. Where a kind is said that signs already, those of that kind.",
            },
            "signature": {
                "type": ["string", "null"], "enum": ["v1", "v1a", null],
                "description": "The kind of the new key; without it each kind that signs is made \
                                anew.",
            },
            "secret": signing::secret_schema(),
        },
        "allOf": signing::prefixes(),
    })
}
