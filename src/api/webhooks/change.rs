//! `PATCH /webhooks/{id}`: sets what is said and leaves the rest as it is (RFC 7396).
//!
//! With `If-Match` it is changed only if nobody has changed it since (412); without it, the
//! change is made to what there is.

use axum::response::Response;
use http::header::IF_MATCH;
use http::{HeaderMap, StatusCode};

use super::asking::Chosen;
use super::draft;
use super::members::Members;
use super::standing::{self, etag};
use crate::api::Problem;
use crate::ledger::{Change, Changed, Changing};

/// So often a change is made anew to what somebody else has just changed.
const TRIES: usize = 5;

pub(super) async fn change(
    chosen: Chosen,
    headers: HeaderMap,
    members: Members,
) -> Result<Response, Problem> {
    members.only(&draft::KNOWN)?;
    let Chosen { asking, mut subscription } = chosen;
    let expected = wanted(&headers)?;
    for _ in 0..TRIES {
        if !expected.is_empty() && !expected.contains(&etag(&subscription)) {
            return Err(Problem::not_as_expected());
        }
        let id = subscription.id;
        let mut draft = standing::draft(&asking, &subscription)?;
        draft.merge(&mut members.clone(), &asking).await?;
        let changing = Changing {
            id,
            principal: asking.only().cloned(),
            unless_since: Some(subscription.changed),
            change: Change::Settings(Box::new(standing::settings(&asking, id, draft)?)),
            at: asking.now(),
        };
        match asking.ledger().change_subscription(changing).await? {
            Changed::Done(now) => {
                let document = standing::whole(&asking, &now).await?;
                return Ok(standing::answer(StatusCode::OK, &now, &document));
            }
            Changed::Unknown => return Err(Problem::no_such_subscription()),
            Changed::Meanwhile => {
                let found = asking.ledger().subscription(asking.only(), id).await?;
                subscription = found.ok_or_else(Problem::no_such_subscription)?;
            }
        }
    }
    Err(Problem::changed_meanwhile())
}

/// The tags in `If-Match`; none where there is none, or where any will do.
fn wanted(headers: &HeaderMap) -> Result<Vec<String>, Problem> {
    let mut wanted = Vec::new();
    for line in headers.get_all(IF_MATCH) {
        let text = line.to_str().unwrap_or_default();
        for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            if tag == "*" {
                return Ok(Vec::new());
            }
            wanted.push(tag.to_owned());
        }
        if wanted.is_empty() {
            return Err(Problem::malformed_field("If-Match", "If-Match is an ETag in quotes"));
        }
    }
    Ok(wanted)
}
