//! Live events as `text/event-stream`: each event has its number as `id:`, and a comment
//! breaks every 15 seconds of silence. The stream ends after the terminal event (and the events
//! that had followed it when the reader came), or when the gateway stops: the reader then
//! reconnects to the next gateway.
//!
//! The invariant: a reader that comes back with the last `id:` it saw misses nothing and
//! sees nothing twice. It must not know what the events mean.

use std::fmt::Write;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};

use super::events::EventDocument;
use super::extract::OperationPath;
use super::negotiation::STREAM_TYPE;
use super::{Api, response};
use cloakroom_domain::OperationId;
use cloakroom_domain::operation::Event;
use cloakroom_ledger::{LedgerError, Watch};

/// How long a stream may be silent.
const SILENCE: Duration = Duration::from_secs(15);
/// Events written at once.
const BATCH: u32 = 100;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The events behind `Last-Event-ID`; 204, which tells a browser not to come back, where
/// the terminal one has been read.
pub(super) fn stream(found: &OperationPath, headers: &HeaderMap) -> Response {
    let operation = &found.operation;
    let after = last_seen(headers).filter(|last| *last <= operation.sequence).unwrap_or(0);
    if found.status().is_final() && after == operation.sequence {
        return response::empty(StatusCode::NO_CONTENT);
    }
    let api = found.context.api.clone();
    let watch = api.ledger.watch(operation.id);
    let last = found.status().is_final().then_some(operation.sequence);
    let reader = EventReader { api, id: operation.id, watch, after, last, ended: false };
    let mut response = response::empty(StatusCode::OK);
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(STREAM_TYPE));
    // nginx would otherwise hold events back until its buffer is full.
    fields.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    *response.body_mut() = Body::from_stream(stream::try_unfold(reader, EventReader::next));
    response
}

/// What is no number, or a number that has not been given out, counts as nothing seen.
fn last_seen(headers: &HeaderMap) -> Option<u32> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()?.parse().ok()
}

/// Where one reader stands.
struct EventReader {
    api: Api,
    id: OperationId,
    watch: Watch,
    after: u32,
    /// The last event there was when the reader came, if the operation had ended: a verdict
    /// may have followed the terminal one, which then lies behind this reader.
    last: Option<u32>,
    ended: bool,
}

impl EventReader {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, LedgerError> {
        if self.ended {
            return Ok(None);
        }
        loop {
            let events = self.api.ledger.events(self.id, self.after, BATCH).await?;
            if let Some(seen) = events.seen() {
                self.after = seen;
                self.ended = match self.last {
                    Some(end) => self.after >= end,
                    None => events.iter().any(|event| event.kind.is_final()),
                };
                return Ok(Some((Bytes::from(written(&events)), self)));
            }
            let silence = self.api.clock.timeout(SILENCE, self.watch.changed());
            let changed = tokio::select! {
                biased;
                changed = silence => changed,
                () = self.api.tasks.draining() => return Ok(None),
            };
            if changed.is_err() {
                return Ok(Some((Bytes::from_static(b": still here\n\n"), self)));
            }
        }
    }
}

fn written(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        // JSON has no line ends of its own, so one data line is enough.
        let document = serde_json::to_string(&EventDocument::of(event)).unwrap_or_default();
        let (id, kind) = (event.sequence, event.kind);
        // Writing into a string cannot fail.
        let _ = write!(text, "id: {id}\nevent: operation.{kind}\ndata: {document}\n\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::Timestamp;
    use cloakroom_domain::operation::EventKind;

    #[test]
    fn a_message_with_line_ends_stays_within_its_event() {
        let event = Event {
            sequence: 3,
            at: Timestamp::EPOCH,
            kind: EventKind::Progressed,
            attempt: 1,
            status: None,
            code: None,
            next_at: None,
            percent: Some(40),
            message: Some("a\n\nid: 9\nb".into()),
        };
        let text = written(&[event]);
        assert!(text.starts_with("id: 3\nevent: operation.progressed\ndata: {"), "{text}");
        assert_eq!(text.matches('\n').count(), 4, "{text}");
    }

    #[test]
    fn a_nonsensical_last_event_id_is_none() {
        for (text, seen) in [("7", Some(7)), ("x", None), ("-1", None), ("99999999999", None)] {
            let mut headers = HeaderMap::new();
            headers.insert(LAST_EVENT_ID, text.parse().unwrap());
            assert_eq!(last_seen(&headers), seen);
        }
    }
}
