//! The silence timeout of proxied requests.
//!
//! Owns what counts as silence: nothing comes of the answer, and nothing is taken of the
//! request, though the client has sent some. Its invariant: a client that pauses, in sending
//! or in taking, is never told that the upstream was silent. It must not know what passes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::upstream::{ResponseBody, UpstreamError};
use cloakroom_domain::Timestamp;
use cloakroom_runtime::clock::Clock;

/// The silence timeout of one exchange, shared by its parts.
#[derive(Debug)]
pub(super) struct SilenceTimeout {
    clock: Clock,
    limit: Duration,
    state: Mutex<SilenceState>,
}

#[derive(Debug)]
struct SilenceState {
    /// Since when the upstream has been waited for.
    since: Timestamp,
    /// Whether the upstream waits for the client.
    client_pauses: bool,
}

impl SilenceTimeout {
    /// Begins now.
    pub(super) fn new(clock: Clock, limit: Duration) -> Arc<Self> {
        let state = Mutex::new(SilenceState { since: clock.now(), client_pauses: false });
        Arc::new(Self { clock, limit, state })
    }

    /// The body of the request, watched on its way.
    pub(super) fn of_request<B>(self: &Arc<Self>, body: B) -> RequestBody<B> {
        RequestBody { body, silence: Arc::clone(self) }
    }

    /// The body of the answer, cut when the upstream falls silent within it.
    pub(super) fn of_answer(self: &Arc<Self>, body: ResponseBody) -> AnswerBody {
        AnswerBody { body, silence: Arc::clone(self), ends: None, waits: false }
    }

    /// Completes when the upstream has been silent for too long.
    pub(super) async fn is_over(self: Arc<Self>) {
        loop {
            let now = self.clock.now();
            let due = {
                let state = self.state();
                if state.client_pauses { now } else { state.since }
            } + self.limit;
            if now >= due {
                return;
            }
            self.clock.sleep(due.since(now)).await;
        }
    }

    /// How long it may last.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    fn begins_anew(&self) {
        self.state().since = self.clock.now();
    }

    fn client_sent(&self) {
        *self.state() = SilenceState { since: self.clock.now(), client_pauses: false };
    }

    fn client_pauses(&self) {
        self.state().client_pauses = true;
    }

    fn state(&self) -> MutexGuard<'_, SilenceState> {
        // Each change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request on its way to the upstream.
pub(super) struct RequestBody<B> {
    body: B,
    silence: Arc<SilenceTimeout>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(_) => self.silence.client_sent(),
            Poll::Pending => self.silence.client_pauses(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Once the request is not read on, the upstream waits for nothing.
impl<B> Drop for RequestBody<B> {
    fn drop(&mut self) {
        self.silence.client_sent();
    }
}

/// An answer stopped in the middle.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResponseError {
    /// The upstream fell silent.
    #[error("the upstream was silent for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// It broke off.
    #[error(transparent)]
    Broken(#[from] UpstreamError),
}

/// The body of an answer on its way to the client.
pub(super) struct AnswerBody {
    body: ResponseBody,
    silence: Arc<SilenceTimeout>,
    ends: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    // The upstream is waited for.
    waits: bool,
}

impl AnswerBody {
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.waits, true) {
            // Up to now it was the client that was waited for.
            self.silence.begins_anew();
        }
        let silence = &self.silence;
        let ends = self.ends.get_or_insert_with(|| Box::pin(Arc::clone(silence).is_over()));
        ends.as_mut().poll(context)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waits = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(ResponseError::from)));
        }
        self.poll_silence(context).map(|()| {
            let limit = self.silence.limit();
            tracing::warn!(
                seconds = limit.as_secs_f64(),
                "an upstream fell silent within an answer that is passed on, which was cut; where \
                 that is its way, raise its response_timeout"
            );
            self.ends = None;
            Some(Err(ResponseError::Silent(limit)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
