//! One connection and the exchange on it.

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use super::body::CallBody;
use super::error::{SentMarker, UpstreamError, story};
use crate::wire::{AnswerFault, Exchange};

/// An HTTP/1.1 connection. Dropped while an exchange is on its way, it is cut at once;
/// dropped idle, it is closed in good order.
#[derive(Debug)]
pub(super) struct UpstreamConnection {
    sender: SendRequest<CallBody>,
    exchange: Exchange,
    task: Option<AbortHandle>,
}

/// The reason why a request got no response head.
pub(super) enum UpstreamSendError {
    /// Not an octet of it was written: here it is back.
    Unsent(Box<Request<CallBody>>),
    /// Not an octet of it was written, and it is gone: something lay at a connection that was used
    /// before.
    Untouched(UpstreamError),
    /// It may have been written, to a connection that was used before and has ended without an
    /// octet of an answer.
    Stale(UpstreamError),
    /// It may have been written.
    Failed(UpstreamError),
}

impl UpstreamConnection {
    pub(super) const fn new(
        sender: SendRequest<CallBody>,
        exchange: Exchange,
        task: AbortHandle,
    ) -> Self {
        Self { sender, exchange, task: Some(task) }
    }

    /// Whether another request can be sent on it now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it is of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether it may carry another exchange, as far as the one before tells.
    pub(super) fn may_repeat(&self) -> bool {
        self.exchange.may_repeat()
    }

    /// Whether content may still follow an answer that has none.
    pub(super) fn is_to_rest(&self) -> bool {
        self.exchange.ends_by_rule()
    }

    /// Whether only the connection's end ends the answer.
    pub(super) fn ends_answer(&self) -> bool {
        self.exchange.ends_with_connection()
    }

    /// How many lines of the answer's head were put right or left out.
    pub(super) fn repairs(&self) -> usize {
        self.exchange.repairs()
    }

    /// What the upstream said before anything was sent to it, as far as that tells what is wrong.
    pub(super) fn fault(&self) -> Option<AnswerFault> {
        self.exchange.fault()
    }

    /// Sends a request and waits for the head of its answer; interim answers (1xx) are
    /// swallowed, except 101.
    pub(super) async fn send(
        &mut self,
        request: Request<CallBody>,
        marker: &SentMarker,
    ) -> Result<Response<Incoming>, UpstreamSendError> {
        if !marker.may_send() {
            return Err(UpstreamSendError::Failed(UpstreamError::unsendable(
                "it may not be sent any more",
            )));
        }
        self.begin(&request, marker);
        match self.sender.try_send_request(request).await {
            Ok(mut response) => {
                *response.headers_mut() = self.exchange.take_fields();
                Ok(response)
            }
            Err(mut error) => match error.take_message() {
                // The connection's task never took it up: an idle connection turned out
                // to be closed, or a new one was closed at once.
                Some(request) => {
                    marker.clear();
                    Err(UpstreamSendError::Unsent(Box::new(request)))
                }
                None => Err(self.unanswered(error.error(), marker)),
            },
        }
    }

    fn begin(&self, request: &Request<CallBody>, marker: &SentMarker) {
        marker.mark();
        self.exchange.begin(request.method(), !request.body().is_end_stream());
    }

    fn unanswered(&self, error: &hyper::Error, marker: &SentMarker) -> UpstreamSendError {
        if self.exchange.is_untouched() {
            marker.clear();
            return UpstreamSendError::Untouched(UpstreamError::unreachable(story(error)));
        }
        match self.exchange.fault() {
            Some(AnswerFault::Other(other)) => {
                marker.clear();
                UpstreamSendError::Failed(UpstreamError::unreachable(other.to_string()))
            }
            Some(ref fault @ AnswerFault::Unreadable { status, .. }) => {
                UpstreamSendError::Failed(UpstreamError::unreadable(status, fault.to_string()))
            }
            fault if self.exchange.is_stale() && !error.is_user() => {
                let told = fault.map_or_else(|| story(error), |fault| fault.to_string());
                UpstreamSendError::Stale(UpstreamError::protocol(told))
            }
            // An answer without a status line: something has read the request.
            Some(fault @ AnswerFault::NotHttp) => {
                UpstreamSendError::Failed(UpstreamError::unreadable(None, fault.to_string()))
            }
            None => UpstreamSendError::Failed(UpstreamError::protocol(story(error))),
        }
    }

    /// Lets go of a connection that has become a tunnel; it lives on with its tunnel.
    pub(super) fn let_go(mut self) {
        self.task = None;
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        // Without this, a connection whose request is still being written, or whose
        // answer is still coming, would live on until its peer is done with it.
        match &self.task {
            Some(task) if !self.sender.is_ready() => task.abort(),
            _ => {}
        }
    }
}
