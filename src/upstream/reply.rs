//! The response of an upstream: its head, and its body still to be read.

use std::error::Error;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::connection::UpstreamConnection;
use super::error::{UpstreamError, story};
use super::pool::UpstreamPool;
use cloakroom_domain::operation::{Doubt, ResponseFraming};
use cloakroom_runtime::clock::Clock;

/// An upstream's answer.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The status.
    pub status: StatusCode,
    /// The fields as they came, those between neighbours included.
    pub fields: HeaderMap,
    /// The body.
    pub body: ResponseBody,
    /// What was asked for: differs from the request's target after a redirect.
    pub target: PathAndQuery,
    /// Whether the request went out twice: first on a connection that had carried another one and
    /// ended without an octet of an answer, so that it may have been carried out before.
    pub is_repeated: bool,
    /// What another gateway's word leaves open, as far as that was looked at.
    pub doubt: Doubt,
}

/// The field in which a gateway says of which origin an answer is.
const GATEWAY_ORIGIN: HeaderName = HeaderName::from_static("gateway-origin");
/// The field in which a gateway tells the status that it recorded.
const UPSTREAM_STATUS: HeaderName = HeaderName::from_static("upstream-status");
/// The longest problem of another gateway's that is looked into, in octets.
const LONGEST_PROBLEM: usize = 64 * 1024;

impl UpstreamResponse {
    /// Whether another gateway answers here itself, in place of what is behind it.
    pub(super) fn is_of_a_gateway(&self) -> bool {
        self.fields.get(GATEWAY_ORIGIN).is_some_and(|origin| origin == "cloakroom")
    }

    /// The status of the service's own answer: in a 424 of another gateway, the one that it says it
    /// recorded.
    pub fn service_status(&self) -> u16 {
        match self.status == StatusCode::FAILED_DEPENDENCY && self.is_of_a_gateway() {
            true => self.recorded_status(),
            false => self.status.as_u16(),
        }
    }

    /// The status that another gateway says it recorded, else that of its answer.
    pub(super) fn recorded_status(&self) -> u16 {
        let told = self.fields.get(UPSTREAM_STATUS).and_then(|value| value.to_str().ok());
        let told = told.and_then(|text| text.parse().ok());
        told.filter(|status| (200..600).contains(status)).unwrap_or(self.status.as_u16())
    }

    /// Whether it is what another gateway has of the work.
    pub fn is_recorded(&self) -> bool {
        self.status.is_success()
            || self.fields.contains_key(UPSTREAM_STATUS)
            || (self.status == StatusCode::FAILED_DEPENDENCY && self.is_of_a_gateway())
    }

    /// What another gateway leaves open that has no answer of the service. Any other 424 means
    /// what it says.
    pub async fn gateway_doubt(&mut self) -> Result<Doubt, UpstreamError> {
        if self.status != StatusCode::FAILED_DEPENDENCY || !self.is_of_a_gateway() {
            return Ok(Doubt::None);
        }
        let problem = self.body.peek(LONGEST_PROBLEM).await?;
        self.doubt = Doubt::of_gateway(&problem);
        Ok(self.doubt)
    }
}

/// The body of an answer, read piece by piece. Dropped before its end, it cuts the
/// connection.
#[derive(Debug)]
pub struct ResponseBody {
    // Read ahead of the caller, who gets it first.
    ahead: Option<Result<Frame<Bytes>, UpstreamError>>,
    incoming: Incoming,
    connection: Option<UpstreamConnection>,
    home: Option<PoolHandle>,
    length: Option<u64>,
    framing: Option<ResponseFraming>,
    status: StatusCode,
}

/// Where a connection goes when its answer was read to the end.
#[derive(Clone, Debug)]
pub(super) struct PoolHandle {
    pub(super) pool: Arc<UpstreamPool>,
    pub(super) clock: Clock,
}

impl ResponseBody {
    pub(super) fn new(
        status: StatusCode,
        incoming: Incoming,
        connection: UpstreamConnection,
        home: Option<PoolHandle>,
    ) -> Self {
        let length = incoming.size_hint().exact();
        let framing = connection.ends_answer().then_some(ResponseFraming::Close);
        let connection = Some(connection);
        let mut body = Self { ahead: None, incoming, connection, home, length, framing, status };
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    /// The body of a 101, which has none: the connection is the tunnel's.
    pub(super) fn of_tunnel(incoming: Incoming, connection: UpstreamConnection) -> Self {
        connection.let_go();
        let status = StatusCode::SWITCHING_PROTOCOLS;
        let (connection, home, length, framing) = (None, None, None, None);
        Self { ahead: None, incoming, connection, home, length, framing, status }
    }

    /// The next octets, none at the end. An answer that breaks off is an error: a body
    /// shorter than its `Content-Length`, chunks without their end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        while let Some(frame) = self.frame().await {
            if let Ok(octets) = frame?.into_data() {
                return Ok(Some(octets));
            }
        }
        Ok(None)
    }

    /// Octets in all, where the upstream said so.
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// What told where it ends, as far as that is recorded.
    pub const fn framing(&self) -> Option<ResponseFraming> {
        self.framing
    }

    /// The body, or its beginning once that has more than `limit` octets. Whatever was
    /// read can still be read by the caller.
    pub(super) async fn peek(&mut self, limit: usize) -> Result<Bytes, UpstreamError> {
        let mut read = Vec::new();
        while read.len() <= limit
            && let Some(octets) = self.piece().await?
        {
            read.extend_from_slice(&octets);
        }
        let read = Bytes::from(read);
        self.ahead = (!read.is_empty()).then(|| Ok(Frame::data(read.clone())));
        Ok(read)
    }

    /// Reads the first piece where it is at hand, and tells what is wrong with it. The caller still
    /// gets that piece first, or what is wrong with it.
    pub async fn first_fault(&mut self) -> Option<UpstreamError> {
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut *self).poll_frame(context))).await;
        let Poll::Ready(Some(first)) = first else { return None };
        let fault = first.as_ref().err().cloned();
        self.ahead = Some(first);
        fault
    }

    /// Gives the connection back: the answer was read to the end.
    fn release(&mut self) {
        if let (Some(connection), Some(home)) = (self.connection.take(), &self.home) {
            home.pool.put(connection, home.clock.now());
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(ahead));
        }
        Poll::Ready(match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
            Some(Ok(frame)) => {
                if self.incoming.is_end_stream() {
                    self.release();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.connection = None;
                Some(Err(broken(self.status, &error)))
            }
            None => {
                self.release();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.as_ref().ok()?.data_ref());
        let Some(ahead) = ahead.map(|octets| octets.len() as u64) else { return rest };
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(ahead));
        }
        whole
    }
}

/// What is said of a body that does not come to its end. One that breaks off is no complete
/// answer; one whose chunks are none came, and cannot be read.
fn broken(status: StatusCode, error: &hyper::Error) -> UpstreamError {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let story = story(error);
    match io.map(io::Error::kind) {
        Some(ErrorKind::InvalidInput | ErrorKind::InvalidData) => UpstreamError::unreadable(
            Some(status.as_u16()),
            format!("the body of an answer with status {status}: {story}"),
        ),
        _ => UpstreamError::protocol(story),
    }
}
