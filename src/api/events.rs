//! `GET …/events`: the timeline, as JSON or live.

use axum::extract::RawQuery;
use axum::response::Response;
use http::header::VARY;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{NO_OPERATION, OperationPath, ticket};
use super::negotiation::ResponseForm;
use super::openapi::{Description, ResponseDoc, Tag, header, query, text};
use super::{Problem, live, response};
use cloakroom_domain::Timestamp;
use cloakroom_domain::operation::Event;
use serde_json::json;

/// The most events of one answer.
const PAGE: u32 = 1000;

/// One line of a timeline.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventDocument {
    /// Rises within an operation; the `id:` of a live event.
    sequence: u32,
    /// The type of the event.
    #[schema(examples("operation.accepted", "operation.started", "operation.succeeded"))]
    r#type: String,
    /// When, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    at: String,
    /// The attempt that it belongs to; 0 before the first.
    attempt: u32,
    /// The upstream's status, where it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The code of what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent_complete: Option<u8>,
    /// The upstream's message about its progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl EventDocument {
    pub(super) fn of(event: &Event) -> Self {
        Self {
            sequence: event.sequence,
            r#type: format!("operation.{}", event.kind),
            at: event.at.rfc3339(),
            attempt: event.attempt,
            status: event.status,
            code: event.code.map(|code| code.to_string()),
            next_attempt_at: event.next_at.map(Timestamp::rfc3339),
            percent_complete: event.percent,
            message: event.message.clone(),
        }
    }
}

/// A timeline, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Timeline {
    /// The type of the event.
    events: Vec<EventDocument>,
    /// Where it goes on.
    links: TimelineLinks,
}

/// Where a timeline belongs and goes on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimelineLinks {
    /// The operation's monitor.
    monitor: String,
    /// The next events; null at the end.
    next: Option<String>,
}

pub(super) async fn show(
    found: OperationPath,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut response = if ResponseForm::of(&headers) == ResponseForm::Stream {
        live::stream(&found, &headers)
    } else {
        let timeline = page(&found, after(query.as_deref())?).await?;
        response::json(StatusCode::OK, response::JSON_TYPE, &timeline)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

async fn page(found: &OperationPath, after: u32) -> Result<Timeline, Problem> {
    let (context, id) = (&found.context, found.operation.id);
    let events = context.api.ledger.events(id, after, PAGE).await?;
    let links = context.links(id);
    let next = events.next().map(|after| format!("{}?after={after}", links.events()));
    Ok(Timeline {
        events: events.iter().map(EventDocument::of).collect(),
        links: TimelineLinks { monitor: links.monitor().to_owned(), next },
    })
}

/// The number behind which the timeline is asked for.
fn after(query: Option<&str>) -> Result<u32, Problem> {
    let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, text)) = parameters.find(|(name, _)| name == "after") else { return Ok(0) };
    text.parse().map_err(|_| {
        Problem::malformed_parameter("after", "after is the sequence number of an event")
    })
}

pub(super) fn description() -> Description {
    let number = json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX });
    let timeline = ResponseDoc::json::<Timeline>("What happened.").or_live_events().with(&["Vary"]);
    Description::new(Tag::Operations, "listEvents", "The timeline, as JSON or live")
        .at([ticket()])
        .asks([
            query("after", "Only events behind this number.", number),
            header("Last-Event-ID", "As after, for live events.", text()),
        ])
        .replies(200, timeline)
        .replies(204, ResponseDoc::empty("The terminal event has been read."))
        .refuses(&[NO_OPERATION])
}
