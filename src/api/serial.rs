//! `GET /serial` and `POST /serial/{name}/release`, for operators: who holds which serial
//! key, and letting the next one go of a key that a failure blocks.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{ApiState, RequestContext};
use super::openapi::{Description, ResponseDoc, Tag, in_path, query};
use super::{Problem, origin, response};
use cloakroom_domain::Timestamp;
use cloakroom_ledger::{KeyInUse, KeyListing, SerialName, Unblocked};
use serde_json::json;

const USUAL: usize = 100;
const MOST: usize = 1000;
/// The name of a serial key, as a pattern.
const NAME: &str = "^[0-9a-f]{32}$";

/// Serial keys that operations hold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SerialKeys {
    /// The keys, in the order of their names.
    keys: Vec<SerialKeyDocument>,
    /// Where the list goes on.
    links: SerialLinks,
}

/// Where the list of keys goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SerialLinks {
    /// The next page; null at the end.
    next: Option<String>,
}

/// A serial key that an operation holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SerialKeyDocument {
    /// What it is released by: the same text of another principal or for another upstream
    /// is another key.
    name: String,
    /// The key as it was given.
    key: Option<String>,
    /// The upstream that it is for.
    upstream: Option<String>,
    /// The id of the operation that holds it.
    holder: Option<String>,
    /// How many wait for it; counted up to 1000.
    waiting: u64,
    /// Whether a failed operation blocks the key until it is released.
    blocked: bool,
    /// Since when.
    #[schema(format = DateTime)]
    blocked_since: Option<String>,
    /// The id of the operation that failed.
    blocked_by: Option<String>,
}

impl SerialKeyDocument {
    fn of(key: &KeyInUse) -> Self {
        Self {
            name: key.name.to_string(),
            key: key.key.clone(),
            upstream: key.upstream.clone(),
            holder: key.holder.map(|id| id.to_string()),
            waiting: key.waiting,
            blocked: key.blocked.is_some(),
            blocked_since: key.blocked.map(|blocked| Timestamp::rfc3339(blocked.since)),
            blocked_by: key.blocked.map(|blocked| blocked.by.to_string()),
        }
    }
}

/// The result of a release.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Release)]
pub(super) struct SerialKeyRelease {
    /// The key's name.
    name: String,
    /// The id of the operation that runs next; null where none waited.
    next: Option<String>,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    context: RequestContext,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let listing = read(query.as_deref().unwrap_or_default())?;
    let keys = context.api.ledger.keys(listing).await?;
    let next = match keys.next() {
        Some(after) => {
            let (base, prefix) = (origin::of_host(&headers)?, &state.api.settings.prefix);
            let (limit, blocked) = (listing.limit, listing.blocked);
            Some(format!("{base}{prefix}/serial?after={after}&limit={limit}&blocked={blocked}"))
        }
        None => None,
    };
    let keys = keys.iter().map(SerialKeyDocument::of).collect();
    let list = SerialKeys { keys, links: SerialLinks { next } };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &list))
}

fn read(query: &str) -> Result<KeyListing, Problem> {
    let mut listing = KeyListing { blocked: false, after: None, limit: USUAL };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let refused = |detail: &str| Problem::malformed_parameter(&name, detail);
        match &*name {
            "blocked" => {
                let blocked = value.parse().map_err(|_| refused("blocked is true or false"))?;
                listing.blocked = blocked;
            }
            "after" => {
                let after = value.parse().map_err(|_| refused("after is a key's name"))?;
                listing.after = Some(after);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                listing.limit = limit.ok_or_else(|| refused("limit is a number from 1 to 1000"))?;
            }
            _ => return Err(refused("known are blocked, after and limit")),
        }
    }
    Ok(listing)
}

pub(super) async fn release(
    context: RequestContext,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let name: SerialName = name.parse().map_err(|_| Problem::no_such_resource())?;
    match context.api.ledger.unblock(name, context.api.clock.now()).await? {
        Unblocked::Done(next) => {
            let next = next.map(|id| id.to_string());
            let release = SerialKeyRelease { name: name.to_string(), next };
            Ok(response::json(StatusCode::OK, response::JSON_TYPE, &release))
        }
        Unblocked::NotBlocked => Err(Problem::not_blocked()),
    }
}

pub(super) fn description() -> Description {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL });
    Description::new(Tag::SerialKeys, "listSerialKeys", "List serial keys that operations hold")
        .asks([
            query("blocked", "Only blocked ones.", json!({ "type": "boolean" })),
            query(
                "after",
                "Behind the key of this name.",
                json!({ "type": "string", "pattern": NAME }),
            ),
            query("limit", "How many at most.", limit),
        ])
        .replies(200, ResponseDoc::json::<SerialKeys>("A page, by name."))
        .refuses(&[(404, "On the public listener.")])
}

pub(super) fn release_description() -> Description {
    let summary = "Let the next operation go of a blocked serial key";
    Description::new(Tag::SerialKeys, "releaseSerialKey", summary)
        .at([in_path("name", "A serial key's name, as the list has it.", NAME)])
        .replies(200, ResponseDoc::json::<SerialKeyRelease>("Released."))
        .refuses(&[(404, "This is no key's name."), (409, "Nothing blocks the key.")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_400() {
        let listing = read("blocked=true&limit=3&after=000102030405060708090a0b0c0d0e0f").unwrap();
        assert!(listing.blocked && listing.after.is_some() && listing.limit == 3);
        for query in ["blocked=yes", "after=7", "limit=0", "limit=1001", "key=a"] {
            assert_eq!(read(query).unwrap_err().status(), 400, "{query}");
        }
    }
}
