//! The request of an attempt, as the upstream sees it.
//!
//! Owns the fields that the gateway adds to a stored request, and those that it removes. It must not
//! know what `upstream` does to every request alike (`Host`, lengths, configured fields).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::EngineContext;
use crate::upstream::{Call, CallBody, SentMarker};
use cloakroom_domain::OperationId;
use cloakroom_domain::http::idempotency::{IDEMPOTENCY_KEY, sent_octets};
use cloakroom_domain::http::{forwarded, trace};
use cloakroom_domain::operation::{BodyKey, OperationBody, Request};
use cloakroom_ledger::{Leased, Ledger, LedgerError};
use cloakroom_runtime::clock::Clock;

const KEY: HeaderName = HeaderName::from_static(IDEMPOTENCY_KEY);
const ID: HeaderName = HeaderName::from_static("operation-id");
const ATTEMPT: HeaderName = HeaderName::from_static("operation-attempt");
const PROGRESS_URL: HeaderName = HeaderName::from_static("operation-progress-url");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The fields that describe an attempt.
struct AttemptFields<'a> {
    id: OperationId,
    key: Option<&'a str>,
    attempt: u32,
    progress_url: Option<String>,
}

/// The call that an attempt makes.
pub(super) fn call(
    engine: &EngineContext,
    leased: &Leased,
    request: &Request,
    stored: Option<&StoredBody>,
    marker: &SentMarker,
) -> Call {
    let marks = AttemptFields {
        id: leased.id,
        key: leased.upstream_key.as_deref(),
        attempt: leased.counts.attempts,
        progress_url: progress_url(engine, leased),
    };
    Call {
        method: request.method.clone(),
        target: request.target.clone(),
        fields: fields(request, marks),
        body: body(&request.body, stored),
        delivery: leased.policy.delivery,
        is_rechecked: leased.policy.recheck.is_some(),
        marker: marker.clone(),
    }
}

/// The fields for asking the upstream's own monitor: the stored ones, without those that
/// speak of the body that was sent.
pub(super) fn monitor_fields(id: OperationId, request: &Request) -> HeaderMap {
    let mut fields = stored(id, request);
    let of_the_body = |name: &str| name.starts_with("content-");
    remove_where(&mut fields, |name| of_the_body(name) || is_conditional(name));
    set(&mut fields, ID, id.to_string());
    fields.insert(header::ACCEPT_ENCODING, IDENTITY);
    fields
}

fn fields(request: &Request, marks: AttemptFields<'_>) -> HeaderMap {
    let mut fields = stored(marks.id, request);
    if matches!(request.method, Method::GET | Method::HEAD) {
        // The whole is recorded, whatever part the client has of it.
        remove_where(&mut fields, is_conditional);
    }
    set(&mut fields, KEY, sent_octets(marks.key, marks.id).into_owned());
    set(&mut fields, ID, marks.id.to_string());
    fields.insert(ATTEMPT, HeaderValue::from(marks.attempt));
    if let Some(url) = marks.progress_url {
        set(&mut fields, PROGRESS_URL, url);
    }
    fields.insert(header::ACCEPT_ENCODING, IDENTITY);
    fields
}

/// The stored fields, with what is left out of them because it follows from the rest.
fn stored(id: OperationId, request: &Request) -> HeaderMap {
    let mut fields = request.fields.clone();
    fields.extend(&request.credentials);
    let mut fields = fields.into_map();
    forwarded::repeat(&mut fields);
    trace::complete(&mut fields, id);
    fields
}

fn is_conditional(name: &str) -> bool {
    name == "range" || name.starts_with("if-")
}

fn remove_where(fields: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> =
        fields.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        fields.remove(name);
    }
}

/// Sets a field. All of these are visible ASCII; what is not would not be HTTP.
fn set(fields: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        fields.insert(name, value);
    }
}

fn progress_url(engine: &EngineContext, leased: &Leased) -> Option<String> {
    let base = engine.settings.progress_base.as_deref()?;
    let key = engine.ledger.ticket_key();
    let token = key.progress_token(leased.id, leased.counts.attempts);
    Some(format!("{base}/operations/{}/progress/{token}", key.ticket(leased.id)))
}

/// A piece of a stored body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChunkError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("piece {0} of the stored body is missing or has another length than was stored")]
    Missing(u32),
}

impl ChunkError {
    /// Whether the piece is lost, rather than out of reach at present.
    const fn is_loss(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Ledger(LedgerError::Damaged(_)))
    }
}

/// Why a stored body could not be sent whole. The gateway broke the call off then, and the upstream
/// is not to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// The ledger does not answer, or another node has the key or the release: a later attempt
    /// finds the body whole.
    OutOfReach,
    /// A part of it is lost, and no attempt ever finds it.
    Lost,
}

/// Records whether a stored body could be read while it was sent. Clones share one record.
#[derive(Clone, Debug, Default)]
pub(super) struct BodyLoss(Arc<AtomicU8>);

impl BodyLoss {
    /// Why the body cannot be read at this moment, if so.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        match self.0.load(Ordering::Acquire) {
            0 => None,
            1 => Some(BodyFault::OutOfReach),
            _ => Some(BodyFault::Lost),
        }
    }

    fn note<T>(&self, piece: &Result<T, ChunkError>) {
        let fault = match piece {
            Ok(_) => 0,
            Err(error) if error.is_loss() => 2,
            Err(_) => 1,
        };
        self.0.store(fault, Ordering::Release);
    }
}

/// How long a piece that is out of reach is asked for again before the call is broken off: a
/// database that moves to another server is back within seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// The bounds of the pause before that.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A stored body, with its first piece in memory.
pub(super) struct StoredBody {
    reader: StoredBodyReader,
    first: Bytes,
    length: u64,
}

impl StoredBody {
    /// Finds the body of a request, if it is stored in pieces. Its first piece is read before
    /// anything is sent, so that a ledger that is away leaves nothing open.
    pub(super) async fn find(
        engine: &EngineContext,
        request: &Request,
        loss: &BodyLoss,
    ) -> Result<Option<Self>, ChunkError> {
        let OperationBody::Chunked { key, length } = request.body else { return Ok(None) };
        let (ledger, clock) = (engine.ledger.clone(), engine.clock.clone());
        let reader = StoredBodyReader { ledger, clock, key, loss: loss.clone() };
        let first = reader.piece(0, length).await?;
        Ok(Some(Self { reader, first, length }))
    }
}

fn body(body: &OperationBody, stored: Option<&StoredBody>) -> CallBody {
    match (body, stored) {
        (_, Some(stored)) => CallBody::stream(stored.length, pieces(stored)),
        (OperationBody::Inline(octets), None) => octets.clone().into(),
        // Without its pieces it is never sent.
        (OperationBody::Chunked { .. }, None) => Bytes::new().into(),
    }
}

#[derive(Clone)]
struct StoredBodyReader {
    ledger: Ledger,
    clock: Clock,
    key: BodyKey,
    loss: BodyLoss,
}

impl StoredBodyReader {
    /// The piece of that number, of a body of which so many octets are left. It is asked for again
    /// for some seconds while it is out of reach.
    async fn piece(&self, number: u32, left: u64) -> Result<Bytes, ChunkError> {
        let (began, mut pause) = (self.clock.elapsed(), PAUSE.0);
        loop {
            let piece = self.piece_now(number, left).await;
            self.loss.note(&piece);
            match piece {
                Err(error) if !error.is_loss() => {
                    if self.clock.elapsed().saturating_sub(began) >= PATIENCE {
                        return Err(error);
                    }
                }
                piece => return piece,
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn piece_now(&self, number: u32, left: u64) -> Result<Bytes, ChunkError> {
        let piece = self.ledger.piece(self.key, number).await?;
        let whole = left.min(OperationBody::INLINE_LIMIT as u64);
        piece.filter(|piece| piece.len() as u64 == whole).ok_or(ChunkError::Missing(number))
    }
}

/// The pieces of a stored body, in order.
fn pieces(
    stored: &StoredBody,
) -> impl stream::Stream<Item = Result<Bytes, ChunkError>> + Send + 'static {
    let (reader, first) = (stored.reader.clone(), Some(stored.first.clone()));
    let begin = (reader, first, 0, stored.length);
    stream::try_unfold(begin, |(reader, first, number, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let piece = match first {
            Some(first) => first,
            None => reader.piece(number, left).await?,
        };
        let left = left.saturating_sub(piece.len() as u64);
        Ok(Some((piece, (reader, None, number + 1, left))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_domain::{Fields, Timestamp};

    fn request(method: Method, given: &[(&'static str, &'static str)]) -> Request {
        let mut map = HeaderMap::new();
        for (name, value) in given {
            map.append(*name, HeaderValue::from_static(value));
        }
        let (credentials, fields) = Fields::from(map).split(|name| *name == header::AUTHORIZATION);
        let target = "/orders".to_owned();
        Request { method, target, fields, credentials, body: OperationBody::empty() }
    }

    fn id() -> OperationId {
        OperationId::new(Timestamp::EPOCH, 0, [1; 10])
    }

    fn sent(request: &Request, key: Option<&str>) -> HeaderMap {
        let progress_url = Some("http://gw/-/operations/t/progress/1-a".to_owned());
        fields(request, AttemptFields { id: id(), key, attempt: 3, progress_url })
    }

    #[test]
    fn an_attempt_says_who_it_is_and_where_to_report() {
        let given = [("accept-encoding", "gzip"), ("authorization", "Basic x"), ("a", "1")];
        let sent = sent(&request(Method::POST, &given), None);
        assert_eq!(sent["operation-id"], id().to_string());
        assert_eq!(sent["operation-attempt"], "3");
        assert_eq!(sent["operation-progress-url"], "http://gw/-/operations/t/progress/1-a");
        assert_eq!(sent["idempotency-key"], format!("\"{}\"", id()));
        assert_eq!(
            (&sent["authorization"], &sent["a"]),
            (&"Basic x".parse().unwrap(), &"1".parse().unwrap())
        );
        assert_eq!(sent.get_all("accept-encoding").iter().collect::<Vec<_>>(), ["identity"]);
    }

    #[test]
    fn the_clients_key_goes_on_as_it_came_and_once() {
        for octets in ["bare", r#""ba\"re""#] {
            let request = request(Method::POST, &[("idempotency-key", "another")]);
            let sent = sent(&request, Some(octets));
            assert_eq!(sent.get_all("idempotency-key").iter().collect::<Vec<_>>(), [octets]);
        }
    }

    #[test]
    fn only_where_something_is_got_conditions_and_ranges_stay_behind() {
        let given = [("range", "bytes=0-1"), ("if-none-match", "\"a\""), ("if-range", "\"a\"")];
        let got = sent(&request(Method::GET, &given), None);
        assert!(given.iter().all(|(name, _)| !got.contains_key(*name)), "{got:?}");
        let put = sent(&request(Method::PUT, &given), None);
        assert_eq!(put["if-none-match"], "\"a\"");
    }

    #[test]
    fn a_monitor_is_asked_without_what_speaks_of_the_body() {
        let given = [("content-type", "text/plain"), ("content-length", "3"), ("accept", "a/b")];
        let asked = monitor_fields(id(), &request(Method::POST, &given));
        assert_eq!(asked["accept"], "a/b");
        assert!(!asked.contains_key("content-type") && !asked.contains_key("content-length"));
    }
}
