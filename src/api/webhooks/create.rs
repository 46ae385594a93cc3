//! `POST /webhooks`: creates a subscription and shows its secret this once.

use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;

use super::context::{NOT_OFFERED, PrincipalError, WebhookContext};
use super::document::NewSubscriptionDocument;
use super::settings_patch::{self, SettingsPatch, UNJUDGED};
use super::signing::{self, KeyRequest};
use super::subscription_view;
use crate::api::json_object::{JsonObject, NO_JSON, TOO_LARGE};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use crate::api::{Problem, response};
use cloakroom_domain::webhooks::secret_storage::SecretOwner;
use cloakroom_ledger::{
    KeyKind, NewSubscription, SubscribeOutcome, Subscription, SubscriptionChange, SubscriptionId,
    SubscriptionUpdate, UpdateOutcome,
};
use serde_json::{Value, json};

const KNOWN: [&str; 4] = ["signature", "secret", "verification", "principal"];

pub(super) async fn create(
    context: WebhookContext,
    mut members: JsonObject,
) -> Result<Response, Problem> {
    members.only(&[&settings_patch::KNOWN[..], &KNOWN].concat())?;
    let named = members.text("principal")?.present();
    let principal = context.owner(named.as_deref()).map_err(PrincipalError::in_body)?;
    let public_base = context.public_base()?;
    let wish = KeyRequest::read(&mut members)?;
    let asks = verification(&mut members)?;
    let mut draft = SettingsPatch::default();
    draft.merge(&mut members, &context, &principal).await?;
    let id = SubscriptionId::of_random(rand::random());
    let key = wish.key(KeyKind::V1)?;
    let settings = subscription_view::settings(&context, id, draft)?;
    let most = context.settings().most;
    let new = NewSubscription {
        id,
        principal,
        settings,
        asks,
        key: signing::sealed(context.settings(), SecretOwner::Subscription(&id), &key)?,
        most,
        public_base,
        at: context.now(),
    };
    let mut made = match context.ledger().subscribe(new).await? {
        SubscribeOutcome::New(made) => *made,
        SubscribeOutcome::TooMany => return Err(Problem::too_many_subscriptions(most)),
    };
    if asks {
        made = verified(&context, made).await?;
    }
    let subscription = subscription_view::whole(&context, &made).await?;
    let document = NewSubscriptionDocument { subscription, secret: signing::secret(&[key]) };
    let mut response = subscription_view::answer(StatusCode::CREATED, &made, &document);
    response::set(response.headers_mut(), LOCATION, context.url(id));
    Ok(response)
}

fn verification(members: &mut JsonObject) -> Result<bool, Problem> {
    match members.text("verification")?.present().as_deref() {
        None | Some("none") => Ok(false),
        Some("cloudevents") => Ok(true),
        Some(_) => {
            let detail = "verification is none, or cloudevents: its receiver is asked with OPTIONS";
            Err(Problem::malformed_body(Some("verification"), detail))
        }
    }
}

/// The subscription, active if its receiver agrees right away.
async fn verified(context: &WebhookContext, made: Subscription) -> Result<Subscription, Problem> {
    let fields = subscription_view::headers(context, &made)?;
    let Ok(allows) = subscription_view::agreed(context, &made.settings.url, fields).await else {
        return Ok(made);
    };
    let changing = SubscriptionUpdate {
        id: made.id,
        principal: None,
        unless_since: Some(made.edited),
        change: SubscriptionChange::Agreed(allows),
        at: context.now(),
    };
    match context.ledger().change_subscription(changing).await? {
        UpdateOutcome::Done(active) => Ok(*active),
        // Another request has made them meanwhile and was shown them.
        UpdateOutcome::Meanwhile | UpdateOutcome::Unknown => Ok(made),
    }
}

pub(super) fn description() -> Description {
    let reply =
        ResponseDoc::json::<NewSubscriptionDocument>("Made; the secret is shown this once.");
    Description::new(Tag::Webhooks, "createSubscription", "Be told of what happens")
        .takes(true, "NewSubscription", schema())
        .replies(201, reply.with(&["Location", "ETag"]))
        .refuses(&[
            NOT_OFFERED,
            (409, "There are as many as may be, or the gateway has no lasting public URL."),
            TOO_LARGE,
            NO_JSON,
            UNJUDGED,
        ])
}

/// A new subscription, as a schema.
fn schema() -> Value {
    let mut new = settings_patch::schema();
    new["required"] = json!(["url", "events"]);
    let verification = json!({
        "type": ["string", "null"], "enum": ["none", "cloudevents", null], "default": "none",
        "description": "Whether the receiver is asked first, with OPTIONS, as CloudEvents do; \
                        and the receiver at a new URL, when the URL changes.",
    });
    let signature = json!({
        "type": ["string", "null"], "enum": ["v1", "v1a", null], "default": "v1",
        "description": "HMAC-SHA256 with a shared secret, or Ed25519.",
    });
    let members = &mut new["properties"];
    members["signature"] = signature;
    members["secret"] = signing::secret_schema();
    members["verification"] = verification;
    members["principal"] = principal_schema();
    new["allOf"] = signing::prefixes();
    new
}

/// The principal of a new subscription or key, as a schema.
pub(super) fn principal_schema() -> Value {
    json!({
        "type": ["string", "null"],
        "description": "On the admin listener: whose it is; where callers are told apart.",
    })
}
