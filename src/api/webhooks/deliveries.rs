//! `GET /webhooks/{id}/deliveries` and one of them: the deliveries of a subscription
//! and their attempts.

use axum::extract::{Path, RawQuery};
use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;

use super::context::{
    NO_SUBSCRIPTION, NUMBER, SubscriptionPath, WebhookContext, id as id_parameter, is_number,
};
use super::document::{DeliveryDocument, DeliveryList, PageLinks};
use super::list::page_parameters;
use crate::api::openapi::{Description, ResponseDoc, Tag, in_path, query};
use crate::api::{Problem, response};
use cloakroom_ledger::{
    DeliveriesOf, Delivery, DeliveryKey, DeliveryListing, DeliveryPage, DeliverySelection,
    Subscription,
};
use serde_json::{Value, json};

const USUAL: usize = 50;
const MOST: usize = 200;

pub(super) async fn list(
    path: SubscriptionPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let SubscriptionPath { context, subscription } = path;
    let of = DeliveriesOf::Receiver(subscription.receiver);
    let listing = read(query.as_deref().unwrap_or_default(), of)?;
    let page = context.ledger().deliveries(&listing).await?;
    let id = subscription.id;
    let next = behind(&listing, &page);
    let next = next.map(|query| context.url(format_args!("{id}/deliveries?{query}")));
    let document = |delivery| DeliveryDocument::of(&context, &subscription, delivery);
    let deliveries = page.deliveries.iter().map(document).collect();
    let list = DeliveryList { deliveries, links: PageLinks { next } };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &list))
}

/// The query of the next page, if there is one.
pub(super) fn behind(listing: &DeliveryListing, page: &DeliveryPage) -> Option<String> {
    let before = page.next?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("before", &before.to_string());
    query.append_pair("limit", &listing.limit.to_string());
    if let Some(only) = listing.only {
        query.append_pair("state", only.as_str());
    }
    Some(query.finish())
}

/// Which deliveries a query asks for.
pub(super) fn read(query: &str, of: DeliveriesOf) -> Result<DeliveryListing, Problem> {
    let mut listing = DeliveryListing { of, only: None, before: None, limit: USUAL };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let refused = |detail: &str| Problem::malformed_parameter(&name, detail);
        match &*name {
            "state" => {
                let only = DeliverySelection::named(&value);
                let right = "state is pending, held, failed, delivered or all";
                listing.only = Some(only.ok_or_else(|| refused(right))?);
            }
            "before" => {
                let before = named(&value).map_err(|_| refused("before is a delivery's number"))?;
                listing.before = Some(before);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                listing.limit = limit.ok_or_else(|| refused("limit is a number from 1 to 200"))?;
            }
            _ => return Err(refused("known are state, before and limit")),
        }
    }
    Ok(listing)
}

pub(super) async fn show(
    path: SubscriptionPath,
    Path((_, number)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let SubscriptionPath { context, subscription } = path;
    let found = find(&context, &subscription, named(&number)?).await?;
    let document = DeliveryDocument::of(&context, &subscription, &found);
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &document))
}

/// The delivery that a path names.
pub(super) fn named(number: &str) -> Result<DeliveryKey, Problem> {
    let plain = is_number(number).then(|| number.parse().ok()).flatten();
    plain.ok_or_else(Problem::no_such_delivery)
}

async fn find(
    context: &WebhookContext,
    subscription: &Subscription,
    key: DeliveryKey,
) -> Result<Delivery, Problem> {
    let found = context.ledger().delivery(subscription.receiver, key).await?;
    found.ok_or_else(Problem::no_such_delivery)
}

/// An answer that shows a delivery which was just made.
pub(super) async fn made(
    context: &WebhookContext,
    subscription: &Subscription,
    key: DeliveryKey,
    status: StatusCode,
) -> Result<Response, Problem> {
    let found = find(context, subscription, key).await?;
    let document = DeliveryDocument::of(context, subscription, &found);
    let mut response = response::json(status, response::JSON_TYPE, &document);
    if let Some(location) = document.location() {
        response::set(response.headers_mut(), LOCATION, location);
    }
    Ok(response)
}

pub(super) fn description() -> Description {
    Description::new(Tag::Webhooks, "listDeliveries", "What was sent, with every attempt")
        .at([id_parameter()])
        .asks(list_parameters())
        .replies(200, ResponseDoc::json::<DeliveryList>("A page, newest first."))
        .refuses(&[NO_SUBSCRIPTION])
}

pub(super) fn show_description() -> Description {
    Description::new(Tag::Webhooks, "getDelivery", "One delivery, with every attempt")
        .at([id_parameter(), number()])
        .replies(200, ResponseDoc::json::<DeliveryDocument>("The delivery."))
        .refuses(&[NO_SUBSCRIPTION])
}

/// The number of a delivery, as a parameter of the path.
pub(super) fn number() -> Value {
    in_path("number", "The delivery's number.", NUMBER)
}

/// The query parameters of a list of deliveries.
pub(super) fn list_parameters() -> [Value; 3] {
    let states = ["pending", "held", "failed", "delivered", "all"];
    let states = json!({ "type": "string", "enum": states });
    let [before, limit] = page_parameters("before");
    [query("state", "Only those that stand so.", states), before, limit]
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::webhooks::ReceiverKey;

    #[test]
    fn filters_are_read_and_what_makes_no_sense_is_400() {
        let read = |query: &str| read(query, DeliveriesOf::Receiver(ReceiverKey(7)));
        let listing = read("state=failed&before=12&limit=3").unwrap();
        assert_eq!((listing.only, listing.limit), (Some(DeliverySelection::Failed), 3));
        for query in ["state=odd", "before=x", "limit=0", "limit=201", "status=failed"] {
            assert_eq!(read(query).unwrap_err().status(), 400, "{query}");
        }
    }
}
