//! One connection and the exchange on it.

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;

use super::body::CallBody;
use super::broken::{Broken, SentMarker, story};

/// An HTTP/1.1 connection. Dropped while an exchange is on its way, it is cut at once;
/// dropped idle, it is closed in good order.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<CallBody>,
    task: Option<AbortHandle>,
}

/// A request did not get its answer's head.
pub(super) enum Unanswered {
    /// Not an octet of it was written: here it is back.
    Unsent(Box<Request<CallBody>>),
    /// It may have been written.
    Broken(Broken),
}

impl Connection {
    pub(super) const fn new(sender: SendRequest<CallBody>, task: AbortHandle) -> Self {
        Self { sender, task: Some(task) }
    }

    /// Whether another request can be sent on it now.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it is of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the head of its answer; interim answers (1xx) are
    /// swallowed, except 101.
    pub(super) async fn send(
        &mut self,
        request: Request<CallBody>,
        marker: &SentMarker,
    ) -> Result<Response<Incoming>, Unanswered> {
        if !marker.may_send() {
            return Err(Unanswered::Broken(Broken::unsendable("it may not be sent any more")));
        }
        marker.mark();
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut error) => match error.take_message() {
                // The connection's task never took it up: an idle connection turned out
                // to be closed, or a new one was closed at once.
                Some(request) => {
                    marker.clear();
                    Err(Unanswered::Unsent(Box::new(request)))
                }
                None => Err(Unanswered::Broken(Broken::protocol(story(error.error())))),
            },
        }
    }

    /// Lets go of a connection that has become a tunnel; it lives on with its tunnel.
    pub(super) fn let_go(mut self) {
        self.task = None;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without this, a connection whose request is still being written, or whose
        // answer is still coming, would live on until its peer is done with it.
        match &self.task {
            Some(task) if !self.sender.is_ready() => task.abort(),
            _ => {}
        }
    }
}
