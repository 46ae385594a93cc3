//! `GET /webhooks/keys`: the public keys that verify what is signed with `v1a`.
//!
//! Those who say who they are see their own, those of callbacks first. A receiver is often
//! not the one who subscribed and has no credential: without one, and where nothing tells
//! callers apart, everybody's keys are shown, without what they belong to. With `kid`, which
//! each message names, there is one.

use axum::extract::{FromRequestParts, RawQuery};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;

use super::context::{WebhookContext, is_number};
use super::document::{KeyUse, PageLinks, PublicKeyDocument, PublicKeys};
use super::list::{SubscriptionPage, page_parameters, principal_parameter};
use super::signing;
use crate::api::extract::{ApiState, base_of};
use crate::api::openapi::{Description, ResponseDoc, Tag, query, text};
use crate::api::{Api, Problem, response};
use crate::config::PrincipalRule;
use cloakroom_domain::Principal;
use cloakroom_domain::webhooks::secret_storage::SecretOwner;
use cloakroom_ledger::{KeyOwner, PublishedKey, Subscription};

const USUAL: usize = 50;
const MOST: usize = 200;

/// The caller of the list of public keys.
pub(super) enum KeySeeker {
    /// A caller who may see subscriptions.
    Known(WebhookContext),
    /// Anybody else.
    Anybody(AnonymousContext),
}

/// The context of an anonymous caller.
pub(super) struct AnonymousContext {
    api: Api,
    /// Where these resources are.
    base: String,
}

impl FromRequestParts<ApiState> for KeySeeker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        match WebhookContext::from_request_parts(parts, state).await {
            Ok(context) => Ok(Self::Known(context)),
            Err(refused)
                if matches!(refused.status(), StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) =>
            {
                let base = base_of(parts, state)?;
                let base = format!("{base}{}/webhooks", state.api.settings.prefix);
                Ok(Self::Anybody(AnonymousContext { api: state.api.clone(), base }))
            }
            Err(refused) => Err(refused),
        }
    }
}

pub(super) async fn keys(
    seeker: KeySeeker,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = query.unwrap_or_default();
    let keys = match (seeker, kid(&query)?) {
        (KeySeeker::Known(context), None) => own_keys(&context, &query).await?,
        (KeySeeker::Known(context), Some(kid)) => {
            let api = &context.request.api;
            let is_own =
                |key: &PublishedKey| context.only().is_none_or(|own| *own == key.principal);
            let found = named(api, kid).await?.filter(is_own);
            let shown = |key: PublishedKey| {
                let subscription = key.subscription.as_ref().map(ToString::to_string);
                published(api, &key, Some(KeyUse { subscription }))
            };
            one(found.map(shown).transpose()?.flatten())
        }
        (KeySeeker::Anybody(public), None) => public.keys(&query).await?,
        (KeySeeker::Anybody(AnonymousContext { api, .. }), Some(kid)) => {
            let found = named(&api, kid).await?;
            one(found.map(|key| published(&api, &key, None)).transpose()?.flatten())
        }
    };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &keys))
}

/// The number of the one key that is sought.
fn kid(query: &str) -> Result<Option<i64>, Problem> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    let Some((_, value)) = parameters.find(|(name, _)| name == "kid") else { return Ok(None) };
    let number = is_number(&value).then(|| value.parse().ok()).flatten();
    let refused = "kid is a number: take it from webhook-key-id of a message";
    number.map(Some).ok_or_else(|| Problem::malformed_parameter("kid", refused))
}

async fn named(api: &Api, kid: i64) -> Result<Option<PublishedKey>, Problem> {
    let found = api.ledger.published_keys(kid - 1, 1).await?;
    Ok(found.iter().find(|found| found.key.number == kid).cloned())
}

fn one(key: Option<PublicKeyDocument>) -> PublicKeys {
    PublicKeys { keys: key.into_iter().collect(), links: PageLinks { next: None } }
}

/// A key as it is shown, as long as it signs.
fn published(
    api: &Api,
    published: &PublishedKey,
    usage_of: Option<KeyUse>,
) -> Result<Option<PublicKeyDocument>, Problem> {
    let PublishedKey { key, principal, subscription } = published;
    if !signing::is_live(key, api.clock.now()) {
        return Ok(None);
    }
    let whose = match subscription {
        Some(id) => SecretOwner::Subscription(id),
        None => SecretOwner::Callbacks(principal),
    };
    let public = signing::public(&api.webhooks, whose, key)?;
    Ok(public.map(|public| PublicKeyDocument::of(key, &public, usage_of)))
}

impl AnonymousContext {
    async fn keys(&self, query: &str) -> Result<PublicKeys, Problem> {
        let (mut after, mut limit) = (0, USUAL);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let refused = |detail: &str| Problem::malformed_parameter(&name, detail);
            let number = is_number(&value).then(|| value.parse().ok()).flatten();
            match &*name {
                "after" => after = number.ok_or_else(|| refused("take it from links.next"))?,
                "limit" => {
                    let number = number.and_then(|number| usize::try_from(number).ok());
                    let number = number.filter(|limit| (1..=MOST).contains(limit));
                    limit = number.ok_or_else(|| refused("limit is a number from 1 to 200"))?;
                }
                _ => return Err(refused("known are kid, after and limit")),
            }
        }
        let found = self.api.ledger.published_keys(after, limit).await?;
        let next =
            found.next().map(|last| format!("{}/keys?after={last}&limit={limit}", self.base));
        let shown = |key| {
            let pass_over =
                |problem: Problem| self.api.ledger.passed_over("keys", problem.detail());
            published(&self.api, key, None).map_err(pass_over).ok().flatten()
        };
        let keys = found.iter().filter_map(shown).collect();
        Ok(PublicKeys { keys, links: PageLinks { next } })
    }
}

async fn own_keys(context: &WebhookContext, query: &str) -> Result<PublicKeys, Problem> {
    let page = SubscriptionPage::read(query, context)?;
    let mut keys = Vec::new();
    if page.listing.after.is_none() {
        keys.extend(of_callbacks(context, page.principal()).await?);
    }
    let found = context.ledger().subscriptions(&page.listing).await?;
    for subscription in found.iter() {
        let owner = KeyOwner::Receiver(subscription.receiver);
        let whose = SecretOwner::Subscription(&subscription.id);
        keys.extend(of(context, &owner, whose, Some(subscription)).await?);
    }
    let next = page.next(found.next());
    let next = next.map(|query| context.url(format_args!("keys?{query}")));
    Ok(PublicKeys { keys, links: PageLinks { next } })
}

/// Those of callbacks, where it is clear whose.
async fn of_callbacks(
    context: &WebhookContext,
    principal: Option<&Principal>,
) -> Result<Vec<PublicKeyDocument>, Problem> {
    let is_one = context.request.api.settings.principal == PrincipalRule::None;
    let everyone = is_one.then(Principal::everyone);
    let Some(principal) = principal.or(everyone.as_ref()) else { return Ok(Vec::new()) };
    let owner = KeyOwner::Callbacks(principal.clone());
    of(context, &owner, SecretOwner::Callbacks(principal), None).await
}

async fn of(
    context: &WebhookContext,
    owner: &KeyOwner,
    whose: SecretOwner<'_>,
    subscription: Option<&Subscription>,
) -> Result<Vec<PublicKeyDocument>, Problem> {
    let keys = context.ledger().signing_keys(owner).await?;
    let mut shown = Vec::new();
    for key in signing::live(keys, context.now()) {
        if let Some(public) = signing::public(context.settings(), whose, &key)? {
            let subscription = subscription.map(|subscription| subscription.id.to_string());
            let usage_of = Some(KeyUse { subscription });
            shown.push(PublicKeyDocument::of(&key, &public, usage_of));
        }
    }
    Ok(shown)
}

pub(super) fn description() -> Description {
    let says = "Only the key that webhook-key-id names.";
    let summary = "Public keys that verify what is signed with v1a";
    Description::new(Tag::Webhooks, "listPublicKeys", summary)
        .asks(page_parameters("after"))
        .asks([principal_parameter(), query("kid", says, text())])
        .replies(200, ResponseDoc::json::<PublicKeys>("A JWK set."))
}
