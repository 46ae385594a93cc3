//! The request and response bodies of an exchange.
//!
//! Owns the deadlines of a request's body. Both bodies keep the connection active for as long as they
//! live.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, HeaderMap};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::deadline_timer::DeadlineTimer;
use super::socket::ExchangeGuard;
use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;

/// A request's body did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It came too slowly: 408.
    #[error("the body came too slowly")]
    TooSlow,
    /// The client went away, or its framing is wrong.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

/// How fast a body has to come.
pub(super) struct BodyDeadlines {
    timer: DeadlineTimer,
    pause: Duration,
    whole: Option<Duration>,
    // Set when the body is first waited for.
    over_at: Option<Timestamp>,
    paused_until: Option<Timestamp>,
}

impl BodyDeadlines {
    pub(super) const fn new(clock: Clock, pause: Duration, whole: Duration) -> Self {
        let whole = Some(whole);
        Self { timer: DeadlineTimer::new(clock), pause, whole, over_at: None, paused_until: None }
    }

    /// Ready when the body has been waited for too long.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = self.timer.now();
        let mut until = *self.paused_until.get_or_insert(now + self.pause);
        if let Some(whole) = self.whole {
            until = until.min(*self.over_at.get_or_insert(now + whole));
        }
        self.timer.poll_until(context, until)
    }
}

/// A request's body, at the pace that the limits ask for.
pub struct IncomingBody {
    incoming: Incoming,
    deadlines: BodyDeadlines,
    guard: ExchangeGuard,
    owes_continue: bool,
    // Octets that were read and put back.
    ahead: Bytes,
}

impl IncomingBody {
    pub(super) fn new(incoming: Incoming, deadlines: BodyDeadlines, guard: ExchangeGuard) -> Self {
        Self { incoming, deadlines, guard, owes_continue: false, ahead: Bytes::new() }
    }

    /// Sees to the 100 that these fields ask for, where hyper would not: it knows only
    /// the expectation that stands alone.
    pub(super) fn expect(&mut self, headers: &HeaderMap) {
        let alone = headers.get_all(EXPECT).iter().next_back();
        let by_hyper =
            alone.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        // What comes as `Operation-Expect` comes through what swallows `Expect`, and would take
        // a 100 for the answer.
        let is_asked = headers
            .get_all(EXPECT)
            .iter()
            .flat_map(|line| line.as_bytes().split(|octet| matches!(octet, b',' | b'/')))
            .any(|member| member.trim_ascii().eq_ignore_ascii_case(b"100-continue"));
        self.owes_continue = is_asked && !by_hyper && !self.incoming.is_end_stream();
    }

    /// Puts octets back that were read, so that they come first.
    pub fn put_back(&mut self, octets: Bytes) {
        self.ahead = octets;
    }

    /// Lets the body take as long as it likes as a whole, if only it never pauses for
    /// too long: for what is passed on while it comes.
    pub fn stream(&mut self) {
        self.deadlines.whole = None;
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.ahead)))));
        }
        if std::mem::take(&mut this.owes_continue) {
            this.guard.owe_continue();
        }
        let polled = match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(frame) => {
                this.deadlines.paused_until = None;
                Poll::Ready(frame.map(|frame| frame.map_err(ReceiveError::Broken)))
            }
            Poll::Pending => {
                this.deadlines.poll_over(context).map(|()| Some(Err(ReceiveError::TooSlow)))
            }
        };
        if let Poll::Ready(Some(Err(error))) = &polled {
            // The code that passes the body on only learns that an error occurred.
            this.guard.failed(error);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, ahead) = (self.incoming.size_hint(), self.ahead.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(ahead));
        }
        whole
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        if !self.incoming.is_end_stream() {
            self.guard.left_unread();
        }
    }
}

pin_project! {
    /// An answer's body on its way out.
    ///
    /// hyper drops whatever it has not written yet, the head included, where a body fails. So a
    /// failure waits until all that came before it is written.
    pub(super) struct OutgoingBody<B: Body> {
        #[pin]
        body: B,
        guard: ExchangeGuard,
        failure: Option<B::Error>,
    }
}

impl<B: Body> OutgoingBody<B> {
    pub(super) fn new(body: B, guard: ExchangeGuard) -> Self {
        Self { body, guard, failure: None }
    }
}

impl<B: Body> Body for OutgoingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if this.failure.is_none() {
            match ready!(this.body.poll_frame(context)) {
                Some(Err(failure)) => *this.failure = Some(failure),
                frame => return Poll::Ready(frame),
            }
            this.guard.breaks_off();
            // hyper does not always flush after it has looked here, but does when it is woken.
            context.waker().wake_by_ref();
        }
        if !this.guard.has_broken_off() {
            return Poll::Pending;
        }
        Poll::Ready(this.failure.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
