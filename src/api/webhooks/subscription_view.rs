//! A subscription with its keys and headers: opened to be shown, sealed to be stored.

use axum::response::Response;
use http::header::{ETAG, HeaderMap};
use http::{HeaderName, StatusCode};
use serde::Serialize;

use super::context::WebhookContext;
use super::document::SubscriptionDocument;
use super::settings_patch::SettingsPatch;
use super::signing::{self, unreadable};
use crate::api::openapi::Refusal;
use crate::api::{Problem, response};
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_domain::webhooks::secret_storage::{self, SecretOwner};
use cloakroom_ledger::{
    KeyOwner, Subscription, SubscriptionId, SubscriptionSettings, SubscriptionState,
};

/// The entity tag of a subscription. It changes with every change of a setting, and not with the
/// health of the receiver, because a change of settings does not overwrite that.
pub(super) fn etag(subscription: &Subscription) -> String {
    format!("\"{}\"", subscription.edited)
}

/// Refuses to show it where `If-Match` does not hold (412).
pub(super) fn may_be_read(
    context: &WebhookContext,
    subscription: &Subscription,
) -> Result<(), Problem> {
    Ok(context.preconditions().allow_reading(Some(&etag(subscription)))?)
}

/// Refuses to change it where a precondition does not hold (412). Whatever else refuses the request
/// comes first (RFC 9110 section 13.2.1).
pub(super) fn may_be_changed(
    context: &WebhookContext,
    subscription: &Subscription,
) -> Result<(), Problem> {
    Ok(context.preconditions().allow_change(&etag(subscription))?)
}

/// A subscription with its keys.
pub(super) async fn whole(
    context: &WebhookContext,
    subscription: &Subscription,
) -> Result<SubscriptionDocument, Problem> {
    let owner = KeyOwner::Receiver(subscription.receiver);
    let keys = context.ledger().signing_keys(&owner).await?;
    let keys = signing::live(keys, context.now());
    let whose = SecretOwner::Subscription(&subscription.id);
    let keys = signing::shown(context.settings(), whose, &keys)?;
    let names = header_names(context, subscription)?;
    Ok(SubscriptionDocument::of(context, subscription, names, Some(keys)))
}

/// The names of the headers that its deliveries get.
pub(super) fn header_names(
    context: &WebhookContext,
    subscription: &Subscription,
) -> Result<Vec<String>, Problem> {
    let headers = headers(context, subscription)?;
    Ok(headers.keys().map(HeaderName::to_string).collect())
}

/// The headers that its deliveries get.
pub(super) fn headers(
    context: &WebhookContext,
    subscription: &Subscription,
) -> Result<HeaderMap, Problem> {
    let Some(sealed) = &subscription.settings.headers else { return Ok(HeaderMap::new()) };
    let whose = SecretOwner::Subscription(&subscription.id);
    secret_storage::open_fields(&context.settings().keyring, whose, sealed)
        .map_err(|error| unreadable(&error))
}

/// The current settings, as the base of a change.
pub(super) fn draft(
    context: &WebhookContext,
    subscription: &Subscription,
) -> Result<SettingsPatch, Problem> {
    let headers = headers(context, subscription)?;
    let SubscriptionSettings { url, topics, routes, tags, description, format, .. } =
        subscription.settings.clone();
    Ok(SettingsPatch { url, topics, routes, tags, headers, description, format })
}

/// The settings, as the ledger stores them.
pub(super) fn settings(
    context: &WebhookContext,
    id: SubscriptionId,
    draft: SettingsPatch,
) -> Result<SubscriptionSettings, Problem> {
    let SettingsPatch { url, topics, routes, tags, headers, description, format } = draft;
    let whose = SecretOwner::Subscription(&id);
    let sealed = if headers.is_empty() {
        None
    } else {
        let keyring = &context.settings().keyring;
        let sealed = secret_storage::seal_fields(keyring, whose, &headers, rand::random());
        Some(sealed.map_err(|error| unreadable(&error))?.into())
    };
    Ok(SubscriptionSettings { url, topics, routes, tags, headers: sealed, description, format })
}

/// Asks the receiver at a URL whether it wants deliveries, and how many, with the headers of the
/// subscription.
pub(super) async fn agreed(
    context: &WebhookContext,
    url: &str,
    fields: HeaderMap,
) -> Result<Permission, String> {
    context.settings().probe.ask(url, fields).await.map_err(|why| why.told(context))
}

/// Refuses what a subscription cannot be asked for that is not active.
pub(super) fn active(subscription: &Subscription) -> Result<(), Problem> {
    match subscription.state {
        SubscriptionState::Active => Ok(()),
        state => Err(Problem::not_active(state.as_str())),
    }
}

/// An answer that shows a subscription as it stands.
pub(super) fn answer(
    status: StatusCode,
    subscription: &Subscription,
    document: &impl Serialize,
) -> Response {
    let mut response = response::json(status, response::JSON_TYPE, document);
    response::set(response.headers_mut(), ETAG, etag(subscription));
    response
}

/// An answer to a request that has the subscription as it stands.
pub(super) fn not_modified(subscription: &Subscription) -> Response {
    let mut response = response::empty(StatusCode::NOT_MODIFIED);
    response::set(response.headers_mut(), ETAG, etag(subscription));
    response
}

/// How a request is refused that needs an active subscription.
pub(super) const NOT_ACTIVE: Refusal = (409, "The subscription is not active.");
