//! `GET /webhooks/keys`: the public keys that verify what is signed with `v1a`, those of
//! callbacks first.

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;

use super::asking::Asking;
use super::document::{PageLinks, PublicKeyDocument, PublicKeys};
use super::list::Page;
use super::signing;
use crate::api::{Problem, own};
use crate::config::PrincipalRule;
use crate::domain::Principal;
use crate::domain::delivery::keeping::Whose;
use crate::ledger::{KeyOwner, Subscription};

pub(super) async fn keys(asking: Asking, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let page = Page::read(query.as_deref().unwrap_or_default(), &asking)?;
    let mut keys = Vec::new();
    if page.listing.after.is_none() {
        keys.extend(of_callbacks(&asking, page.principal()).await?);
    }
    let found = asking.ledger().subscriptions(&page.listing).await?;
    for subscription in &found {
        let owner = KeyOwner::Receiver(subscription.receiver);
        let whose = Whose::Subscription(&subscription.id);
        keys.extend(of(&asking, &owner, whose, Some(subscription)).await?);
    }
    let next = page.next(found.last().map(|last| last.receiver), found.len());
    let next = next.map(|query| asking.url(format_args!("keys?{query}")));
    let keys = PublicKeys { keys, links: PageLinks { next } };
    Ok(own::json(StatusCode::OK, own::JSON_TYPE, &keys))
}

/// Those of callbacks, where it is clear whose.
async fn of_callbacks(
    asking: &Asking,
    principal: Option<&Principal>,
) -> Result<Vec<PublicKeyDocument>, Problem> {
    let is_one = asking.visit.api.settings.principal == PrincipalRule::None;
    let everyone = is_one.then(Principal::everyone);
    let Some(principal) = principal.or(everyone.as_ref()) else { return Ok(Vec::new()) };
    let owner = KeyOwner::Callbacks(principal.clone());
    of(asking, &owner, Whose::Callbacks(principal), None).await
}

async fn of(
    asking: &Asking,
    owner: &KeyOwner,
    whose: Whose<'_>,
    subscription: Option<&Subscription>,
) -> Result<Vec<PublicKeyDocument>, Problem> {
    let keys = asking.ledger().signing_keys(owner).await?;
    let mut shown = Vec::new();
    for key in signing::live(keys, asking.now()) {
        if let Some(public) = signing::public(asking.settings(), whose, &key)? {
            shown.push(PublicKeyDocument::of(&key, &public, subscription));
        }
    }
    Ok(shown)
}
