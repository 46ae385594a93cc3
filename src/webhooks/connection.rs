//! Connections to receivers, and the exchanges on them.
//!
//! Owns the fate of a connection after an abandoned exchange: it is closed, or not used again
//! while other exchanges continue on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::task::AbortHandle;

use crate::wire::{AnswerFault, Exchange};
use cloakroom_domain::webhooks::Destination;

/// A request before it is known how it will be written.
pub(super) struct DeliveryRequest {
    pub(super) method: Method,
    pub(super) fields: http::HeaderMap,
    pub(super) body: Bytes,
}

/// A connection. An exchange that was begun and not finished ends it.
#[derive(Debug)]
pub(super) struct ReceiverConnection {
    line: HttpVersion,
    is_busy: bool,
}

#[derive(Debug)]
enum HttpVersion {
    /// HTTP/1.1: one exchange after the other.
    One(http1::SendRequest<Full<Bytes>>, Exchange, AbortHandle),
    /// HTTP/2: many at once. The mark says that one of them got stuck.
    Many(http2::SendRequest<Full<Bytes>>, Arc<AtomicBool>),
}

/// There is no head of an answer.
#[derive(Debug)]
pub(super) enum ReceiverExchangeError {
    /// The connection had ended, or told something unasked, before anything was written.
    Unsent,
    /// A connection that had carried another exchange has ended, or told what was left of that
    /// one, without an octet of an answer. Something may have been written.
    Stale(hyper::Error),
    /// Something may have been written.
    Broken(hyper::Error),
    /// The response is malformed.
    Unreadable(AnswerFault),
    /// The destination cannot be written as a request.
    Unwritable,
}

impl ReceiverConnection {
    pub(super) const fn one(
        sender: http1::SendRequest<Full<Bytes>>,
        exchange: Exchange,
        task: AbortHandle,
    ) -> Self {
        Self { line: HttpVersion::One(sender, exchange, task), is_busy: false }
    }

    pub(super) fn many(sender: http2::SendRequest<Full<Bytes>>) -> Self {
        Self { line: HttpVersion::Many(sender, Arc::default()), is_busy: false }
    }

    /// The same connection once more, where it can be shared.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.line {
            HttpVersion::One(..) => None,
            HttpVersion::Many(sender, stuck) => {
                let line = HttpVersion::Many(sender.clone(), Arc::clone(stuck));
                Some(Self { line, is_busy: false })
            }
        }
    }

    /// Whether another request can be sent on it now.
    pub(super) fn is_ready(&self) -> bool {
        match &self.line {
            HttpVersion::One(sender, exchange, _) => sender.is_ready() && exchange.may_repeat(),
            HttpVersion::Many(sender, stuck) => sender.is_ready() && !stuck.load(Ordering::Acquire),
        }
    }

    /// Whether it is of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        match &self.line {
            HttpVersion::One(sender, exchange, _) => sender.is_closed() || !exchange.may_repeat(),
            HttpVersion::Many(sender, stuck) => sender.is_closed() || stuck.load(Ordering::Acquire),
        }
    }

    /// Sends a request and waits for the head of its answer. The exchange goes on until
    /// [`ReceiverConnection::finish`].
    pub(super) async fn send(
        &mut self,
        to: &Destination,
        outgoing: &DeliveryRequest,
    ) -> Result<Response<Incoming>, ReceiverExchangeError> {
        self.is_busy = true;
        let request = self.written(to, outgoing).ok_or(ReceiverExchangeError::Unwritable)?;
        match &mut self.line {
            HttpVersion::One(sender, exchange, _) => {
                exchange.begin(request.method(), !outgoing.body.is_empty());
                match sender.try_send_request(request).await {
                    Ok(mut answer) => {
                        *answer.headers_mut() = exchange.take_fields();
                        Ok(answer)
                    }
                    Err(error) => Err(unanswered(error, Some(exchange))),
                }
            }
            HttpVersion::Many(sender, _) => {
                sender.try_send_request(request).await.map_err(|error| unanswered(error, None))
            }
        }
    }

    /// The answer was read to its end: waits until another exchange can begin, which is at
    /// once unless the request is still being written.
    pub(super) async fn finish(&mut self) {
        // The pool does not keep one that has ended meanwhile.
        let _ = match &mut self.line {
            HttpVersion::One(sender, ..) => sender.ready().await,
            HttpVersion::Many(sender, _) => sender.ready().await,
        };
        self.is_busy = false;
    }

    fn written(
        &self,
        to: &Destination,
        outgoing: &DeliveryRequest,
    ) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.headers_mut() = outgoing.fields.clone();
        let target: PathAndQuery = to.target().parse().ok()?;
        *request.uri_mut() = match &self.line {
            HttpVersion::One(..) => {
                let host = HeaderValue::from_str(to.authority()).ok()?;
                request.headers_mut().insert(header::HOST, host);
                Uri::from(target)
            }
            // There the host is part of the URI.
            HttpVersion::Many(..) => Uri::builder()
                .scheme(if to.is_tls() { Scheme::HTTPS } else { Scheme::HTTP })
                .authority(to.authority().parse::<Authority>().ok()?)
                .path_and_query(target)
                .build()
                .ok()?,
        };
        Some(request)
    }
}

impl Drop for ReceiverConnection {
    fn drop(&mut self) {
        match &self.line {
            // Without this, one whose request is still being written, or whose answer is
            // still coming, would live on until the receiver is done with it.
            HttpVersion::One(_, _, task) if self.is_busy => task.abort(),
            // The exchange itself ends as its future is dropped; others may go on.
            HttpVersion::Many(_, stuck) if self.is_busy => stuck.store(true, Ordering::Release),
            _ => {}
        }
    }
}

fn unanswered(
    mut error: hyper::client::conn::TrySendError<Request<Full<Bytes>>>,
    exchange: Option<&Exchange>,
) -> ReceiverExchangeError {
    let is_stale = exchange.is_some_and(Exchange::is_stale);
    if exchange.is_some_and(Exchange::is_untouched) {
        return ReceiverExchangeError::Unsent;
    }
    match (error.take_message(), exchange.and_then(Exchange::fault)) {
        (None, _) if is_stale => ReceiverExchangeError::Stale(error.into_error()),
        (_, Some(fault)) => ReceiverExchangeError::Unreadable(fault),
        (Some(_), None) => ReceiverExchangeError::Unsent,
        (None, None) => ReceiverExchangeError::Broken(error.into_error()),
    }
}
