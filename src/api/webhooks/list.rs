//! `GET /webhooks`: the list of subscriptions, oldest first.

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;

use super::context::{NOT_OFFERED, NUMBER, PrincipalError, WebhookContext, is_number};
use super::document::{PageLinks, SubscriptionDocument, SubscriptionList};
use super::subscription_view;
use crate::api::openapi::{Description, ResponseDoc, Tag, query, text};
use crate::api::{Problem, response};
use cloakroom_domain::Principal;
use cloakroom_domain::webhooks::ReceiverKey;
use cloakroom_ledger::SubscriptionListing;
use serde_json::{Value, json};

const USUAL: usize = 50;
const MOST: usize = 200;

pub(super) async fn list(
    context: WebhookContext,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let page = SubscriptionPage::read(query.as_deref().unwrap_or_default(), &context)?;
    let found = context.ledger().subscriptions(&page.listing).await?;
    let next = page.next(found.next());
    let document = |subscription| {
        let pass_over = |problem: Problem| {
            context.ledger().passed_over("subscriptions", problem.detail());
        };
        let names =
            subscription_view::header_names(&context, subscription).map_err(pass_over).ok()?;
        Some(SubscriptionDocument::of(&context, subscription, names, None))
    };
    let subscriptions = found.iter().filter_map(document).collect();
    let links = PageLinks { next: next.map(|query| context.list(&query)) };
    let list = SubscriptionList { subscriptions, links };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &list))
}

/// Which page of subscriptions is wanted.
pub(super) struct SubscriptionPage {
    pub(super) listing: SubscriptionListing,
    /// Whose, as operators have said.
    named: Option<String>,
}

impl SubscriptionPage {
    /// Reads `after`, `limit` and, for operators, `principal`.
    pub(super) fn read(query: &str, context: &WebhookContext) -> Result<Self, Problem> {
        let principal = context.only().cloned();
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
                    let owner = context.owner(Some(&value)).map_err(PrincipalError::in_query)?;
                    page.listing.principal = Some(owner);
                    page.named = Some(value.into_owned());
                }
                _ => return Err(refused("known are after, limit and, for operators, principal")),
            }
        }
        Ok(page)
    }

    /// Only the subscriptions of this principal.
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

pub(super) fn description() -> Description {
    Description::new(Tag::Webhooks, "listSubscriptions", "List one's subscriptions")
        .asks(page_parameters("after"))
        .asks([principal_parameter()])
        .replies(200, ResponseDoc::json::<SubscriptionList>("A page, the oldest first."))
        .refuses(&[NOT_OFFERED])
}

/// The query parameters that choose a page.
pub(super) fn page_parameters(which: &str) -> [Value; 2] {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL });
    let number = json!({ "type": "string", "pattern": NUMBER });
    [query(which, "From links.next.", number), query("limit", "How many at most.", limit)]
}

/// The query parameter by which operators choose a principal.
pub(super) fn principal_parameter() -> Value {
    let says = "On the admin listener: whose; where callers are told apart.";
    query("principal", says, text())
}
