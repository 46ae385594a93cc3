//! `GET /webhooks`: subscriptions, in the order in which they were made.

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;

use super::asking::{Asking, Wanting, is_number};
use super::document::{PageLinks, SubscriptionDocument, SubscriptionList};
use super::standing;
use crate::api::{Problem, own};
use cloakroom_domain::Principal;
use cloakroom_domain::delivery::ReceiverKey;
use cloakroom_ledger::SubscriptionListing;

const USUAL: usize = 50;
const MOST: usize = 200;

pub(super) async fn list(asking: Asking, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let page = Page::read(query.as_deref().unwrap_or_default(), &asking)?;
    let found = asking.ledger().subscriptions(&page.listing).await?;
    let next = page.next(found.next());
    let document = |subscription| {
        let pass_over = |problem: Problem| {
            asking.ledger().passed_over("subscriptions", problem.detail());
        };
        let names = standing::header_names(&asking, subscription).map_err(pass_over).ok()?;
        Some(SubscriptionDocument::of(&asking, subscription, names, None))
    };
    let subscriptions = found.iter().filter_map(document).collect();
    let links = PageLinks { next: next.map(|query| asking.list(&query)) };
    let list = SubscriptionList { subscriptions, links };
    Ok(own::json(StatusCode::OK, own::JSON_TYPE, &list))
}

/// Which page of subscriptions is wanted.
pub(super) struct Page {
    pub(super) listing: SubscriptionListing,
    /// Whose, as operators have said.
    named: Option<String>,
}

impl Page {
    /// Reads `after`, `limit` and, for operators, `principal`.
    pub(super) fn read(query: &str, asking: &Asking) -> Result<Self, Problem> {
        let principal = asking.only().cloned();
        let listing = SubscriptionListing { principal, after: None, limit: USUAL };
        let mut page = Self { listing, named: None };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let refused = |detail: &str| Problem::malformed_parameter(&name, detail);
            match &*name {
                "after" => {
                    let after = is_number(&value).then(|| value.parse().ok()).flatten();
                    let after = after.ok_or_else(|| refused("take it from links.next"))?;
                    page.listing.after = Some(ReceiverKey(after));
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    let limit = limit.ok_or_else(|| refused("limit is a number from 1 to 200"))?;
                    page.listing.limit = limit;
                }
                "principal" => {
                    let owner = asking.owner(Some(&value)).map_err(Wanting::in_query)?;
                    page.listing.principal = Some(owner);
                    page.named = Some(value.into_owned());
                }
                _ => return Err(refused("known are after, limit and, for operators, principal")),
            }
        }
        Ok(page)
    }

    /// Whose alone.
    pub(super) fn principal(&self) -> Option<&Principal> {
        self.listing.principal.as_ref()
    }

    /// The query of the page behind this receiver, if there is one.
    pub(super) fn next(&self, last: Option<ReceiverKey>) -> Option<String> {
        let last = last?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("after", &last.to_string());
        query.append_pair("limit", &self.listing.limit.to_string());
        if let Some(named) = &self.named {
            query.append_pair("principal", named);
        }
        Some(query.finish())
    }
}
