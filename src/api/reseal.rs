//! `POST /secrets/reseal`, for operators: seals anew what lies open or under an earlier key, a part
//! of the ledger at a time; `?after=` goes on where the part before ended.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::RawQuery;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::RequestContext;
use super::openapi::{Description, ResponseDoc, Tag, query, text};
use super::{Problem, response};
use cloakroom_domain::Timestamp;
use cloakroom_ledger::{NoCursor, ResealCursor, Resealed};

/// How long one answer is worked on.
const A_WHILE: Duration = Duration::from_millis(500);

/// The report of one part of a reseal walk.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResealReport {
    /// The id of the key that seals.
    #[schema(examples("3fa94c01"))]
    key: String,
    /// How many rows were looked at.
    looked_at: u64,
    /// How many values were sealed anew.
    resealed: u64,
    /// How many values changed meanwhile: another walk finds them.
    missed: u64,
    /// How many values no configured key opens.
    unopened: u64,
    /// Why, of some of them.
    reasons: Vec<String>,
    /// At the end of a walk that found nothing left: ids of other keys that nodes still seal with.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_keys: Option<Vec<String>>,
    /// Where to go on (`after`); left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn reseal(
    context: RequestContext,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (ledger, clock) = (&context.api.ledger, &context.api.clock);
    let mut walk =
        walk(query.as_deref().unwrap_or_default())?.unwrap_or_else(|| ResealWalk::new(clock.now()));
    let key = ledger.sealing_key().ok_or_else(Problem::not_sealing)?;
    let (mut all, began) = (Resealed::default(), clock.elapsed());
    loop {
        all.add(ledger.reseal(walk.cursor).await?);
        let Some(next) = all.next else { break };
        walk.cursor = next;
        if clock.elapsed() >= began + A_WHILE {
            break;
        }
    }
    walk.clean &= all.found_nothing();
    let other_keys = match all.next {
        None if walk.clean => {
            let others = ledger.forget_keys(walk.began).await?;
            Some(others.iter().map(ToString::to_string).collect())
        }
        _ => None,
    };
    let report = ResealReport {
        key: key.to_string(),
        looked_at: all.looked_at,
        resealed: all.resealed,
        missed: all.missed,
        unopened: all.unopened,
        reasons: all.reasons,
        other_keys,
        next: all.next.map(|_| walk.to_string()),
    };
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &report))
}

/// A walk as far as it is: what an answer says and the next question repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ResealWalk {
    cursor: ResealCursor,
    began: Timestamp,
    /// It has found nothing so far.
    clean: bool,
}

impl ResealWalk {
    const fn new(began: Timestamp) -> Self {
        Self { cursor: ResealCursor::START, began, clean: true }
    }
}

impl fmt::Display for ResealWalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cursor, began, clean } = self;
        write!(f, "{cursor}~{}~{}", began.as_micros(), u8::from(*clean))
    }
}

impl FromStr for ResealWalk {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let mut parts = text.splitn(3, '~');
        let mut part = || parts.next().ok_or(NoCursor);
        let (cursor, began, clean) = (part()?.parse()?, part()?, part()? == "1");
        let began = began.parse().map_err(|_| NoCursor)?;
        Ok(Self { cursor, began: Timestamp::from_micros(began), clean })
    }
}

fn walk(query: &str) -> Result<Option<ResealWalk>, Problem> {
    let mut walk = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let refused = |why| Problem::malformed_parameter(&name, why);
        if name != "after" {
            return Err(refused("known is after"));
        }
        walk = Some(value.parse().map_err(|_| refused("give the `next` of an answer"))?);
    }
    Ok(walk)
}

pub(super) fn description() -> Description {
    let summary =
        "Seal anew what lies open or under an earlier key, a part of the ledger at a time";
    Description::new(Tag::Ledger, "resealSecrets", summary)
        .asks([query("after", "Go on where the answer before ended: its `next`.", text())])
        .replies(200, ResponseDoc::json::<ResealReport>("What the part came to."))
        .refuses(&[
            (400, "This is no place to go on."),
            (404, "On the public listener."),
            (409, "No key is set."),
        ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_read_as_it_was_written_and_nothing_else_is() {
        for clean in [true, false] {
            let cursor = ResealCursor::Pieces(-7, 3);
            let far = ResealWalk { cursor, clean, ..ResealWalk::new(Timestamp::from_micros(9)) };
            assert_eq!(walk(&format!("after={far}")).unwrap(), Some(far));
        }
        assert_eq!(walk("").unwrap(), None);
        for wrong in ["after=", "after=keys.1", "after=keys.1~x~1", "since=1"] {
            assert!(walk(wrong).is_err(), "{wrong}");
        }
    }
}
