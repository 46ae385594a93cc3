//! `GET /operations`: the list of operations, newest first, with filters.
//!
//! Owns the names and forms of the filters. A parameter that is not known is refused:
//! ignoring a misspelled filter would show what was not asked for.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{ApiState, RequestContext, Side};
use super::openapi::{Description, ResponseDoc, Tag, query, text};
use super::{Caller, Document, Problem, origin, response};
use crate::config::PrincipalRule;
use cloakroom_domain::operation::Status;
use cloakroom_domain::{OperationId, Timestamp};
use cloakroom_ledger::Listing;
use serde_json::json;

const USUAL: usize = 50;
const MOST: usize = 200;

/// A page of operations, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List {
    /// The operations; may be fewer than asked for while there are more to come.
    operations: Vec<Document>,
    /// Where the list goes on.
    links: ListLinks,
}

/// Where a list goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListLinks {
    /// The next page; null at the end.
    next: Option<String>,
}

pub(super) async fn show(
    State(state): State<ApiState>,
    context: RequestContext,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !is_offered(&state) {
        return Err(Problem::not_offered_here());
    }
    let query = query.unwrap_or_default();
    let mut listing = read(&query)?;
    if let Caller::Client(principal) = &context.caller {
        listing.principal = Some(principal.clone());
    }
    let page = context.api.ledger.list(&listing).await?;
    let next = match page.next {
        Some(id) => Some(next_page(&state, &context, &headers, &query, id)?),
        None => None,
    };
    let operations = page.operations.iter().map(|operation| context.document(operation)).collect();
    let list = List { operations, links: ListLinks { next } };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &list))
}

/// Where nothing tells callers apart, everybody would see everybody's.
fn is_offered(state: &ApiState) -> bool {
    let settings = &state.api.settings;
    state.side == Side::Operators || settings.shared || settings.principal != PrincipalRule::None
}

/// The same list behind `id`, on the listener that was asked.
fn next_page(
    state: &ApiState,
    context: &RequestContext,
    headers: &HeaderMap,
    query: &str,
    id: OperationId,
) -> Result<String, Problem> {
    let base = match state.side {
        Side::Public => context.base.clone(),
        Side::Operators => origin::of_host(headers)?,
    };
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "before");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("before", &id.to_string())
        .finish();
    Ok(format!("{base}{}/operations?{query}", state.api.settings.prefix))
}

fn read(query: &str) -> Result<Listing, Problem> {
    let mut listing = Listing { limit: USUAL, ..Listing::default() };
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if seen.iter().any(|earlier| *earlier == name) {
            return Err(Problem::malformed_parameter(&name, format!("{name} is there twice")));
        }
        set(&mut listing, &name, &value)?;
        seen.push(name.into_owned());
    }
    Ok(listing)
}

fn set(listing: &mut Listing, name: &str, value: &str) -> Result<(), Problem> {
    let refused = |detail: &str| Problem::malformed_parameter(name, detail);
    let instant =
        || instant(value).ok_or_else(|| refused("write an instant as in 2026-11-21T08:30:00Z"));
    match name {
        "status" => {
            let status = value.parse().map_err(|unknown| refused(&format!("{unknown}")))?;
            listing.status = Some(status);
        }
        "route" => listing.route = Some(value.to_owned()),
        "queue" => listing.queue = Some(value.to_owned()),
        "tag" => listing.tag = Some(value.to_owned()),
        "unknown" if value == "true" => listing.unknown = true,
        "unknown" => return Err(refused("unknown is true, or left out")),
        "since" => listing.since = Some(instant()?),
        "until" => listing.until = Some(instant()?),
        "before" => {
            let before = value.parse().map_err(|_| refused("before is an operation's id"))?;
            listing.before = Some(before);
        }
        "limit" => {
            let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
            listing.limit = limit.ok_or_else(|| refused("limit is a number from 1 to 200"))?;
        }
        _ => {
            let known =
                "known are status, unknown, route, queue, tag, since, until, before and limit";
            return Err(refused(known));
        }
    }
    Ok(())
}

fn instant(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_micros(instant.as_microsecond()))
}

pub(super) fn description() -> Description {
    let instant = || json!({ "type": "string", "format": "date-time" });
    let statuses: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL });
    Description::new(Tag::Operations, "listOperations", "List and search one's own operations")
        .asks([
            query("status", "In this state.", json!({ "type": "string", "enum": statuses })),
            query(
                "unknown",
                "Whose outcome is unknown, without a verdict.",
                json!({ "type": "string", "enum": ["true"] }),
            ),
            query("route", "Of this route.", text()),
            query("queue", "In this queue.", text()),
            query("tag", "With this tag.", text()),
            query("since", "Accepted at or after.", instant()),
            query("until", "Accepted before.", instant()),
            query(
                "before",
                "Older than the operation with this id.",
                json!({ "type": "string", "format": "uuid" }),
            ),
            query("limit", "How many at most.", limit),
        ])
        .replies(200, ResponseDoc::json::<List>("A page, newest first."))
        .refuses(&[(404, "Not offered here: nothing tells callers apart.")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let listing =
            read("status=failed&tag=kind%3Aa&since=2026-11-21T08:30:00Z&limit=3").unwrap();
        assert_eq!(listing.status, Some(Status::Failed));
        assert_eq!(listing.tag.as_deref(), Some("kind:a"));
        assert_eq!(listing.since, Some(Timestamp::from_micros(1_795_249_800_000_000)));
        assert_eq!(listing.limit, 3);
        assert_eq!(read("").unwrap().limit, 50);
    }

    #[test]
    fn what_makes_no_sense_is_400() {
        for query in [
            "status=nonsense",
            "since=yesterday",
            "until=",
            "limit=0",
            "limit=201",
            "limit=-1",
            "limit=x",
            "before=7",
            "tags=a",
            "tag=a&tag=b",
        ] {
            assert_eq!(read(query).unwrap_err().status(), 400, "{query}");
        }
    }
}
