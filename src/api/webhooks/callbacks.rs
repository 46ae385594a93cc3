//! `GET /operations/{ticket}/deliveries`: the deliveries to the callback URL of a
//! request.
//!
//! Every caller that may see an operation may see them, because its own request named the URL.
//! Deliveries to subscriptions are shown to the owners of the subscriptions only.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::deliveries;
use super::document::{DeliveryDocument, DeliveryList, PageLinks};
use crate::api::extract::{ApiState, NO_OPERATION, OperationPath, Side, ticket};
use crate::api::openapi::{Description, ResponseDoc, Tag};
use crate::api::{Problem, origin, response};
use cloakroom_ledger::DeliveriesOf;

pub(super) async fn list(
    State(state): State<ApiState>,
    found: OperationPath,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let id = found.operation.id;
    let of = DeliveriesOf::Callback(id);
    let listing = deliveries::read(query.as_deref().unwrap_or_default(), of)?;
    let page = state.api.ledger.deliveries(&listing).await?;
    let next = match deliveries::behind(&listing, &page) {
        None => None,
        Some(query) => {
            let operation = match state.side {
                Side::Public => found.context.links(id).monitor().to_owned(),
                Side::Operators => {
                    let prefix = &state.api.settings.prefix;
                    format!("{}{prefix}/operations/{id}", origin::of_host(&headers)?)
                }
            };
            Some(format!("{operation}/deliveries?{query}"))
        }
    };
    let deliveries = page.deliveries.iter().map(DeliveryDocument::of_callback).collect();
    let list = DeliveryList { deliveries, links: PageLinks { next } };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &list))
}

pub(super) fn description() -> Description {
    let summary = "What was sent to its callback, with every attempt";
    Description::new(Tag::Operations, "listCallbackDeliveries", summary)
        .at([ticket()])
        .asks(deliveries::list_parameters())
        .replies(200, ResponseDoc::json::<DeliveryList>("A page, newest first."))
        .refuses(&[NO_OPERATION])
}
