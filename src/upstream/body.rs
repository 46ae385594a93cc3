//! The body of an outgoing request.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};

/// Any error that reading a body may bring.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request: at hand, or read while it is sent.
#[derive(Debug)]
pub struct CallBody(Content);

#[derive(Debug)]
enum Content {
    Inline(Bytes),
    // The number is what is left, where the length was told beforehand.
    Streamed(UnsyncBoxBody<Bytes, BoxError>, Option<u64>),
}

impl CallBody {
    /// A body of no octets.
    pub const fn empty() -> Self {
        Self(Content::Inline(Bytes::new()))
    }

    /// A body of exactly `length` octets that is read while it is sent. If the stream
    /// ends early or with an error, the connection is cut and the call is broken.
    pub fn stream<S, E>(length: u64, pieces: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let frames = pieces.map(|piece| piece.map(Frame::data).map_err(Into::into));
        Self(Content::Streamed(StreamBody::new(frames).boxed_unsync(), Some(length)))
    }

    /// A body that is passed on as it comes, trailers included.
    pub(super) fn proxied<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self(Content::Streamed(body.map_err(Into::into).boxed_unsync(), None))
    }

    /// The same body once more, where it is at hand.
    pub(super) fn at_hand(&self) -> Option<Self> {
        match &self.0 {
            Content::Inline(octets) => Some(Self(Content::Inline(octets.clone()))),
            Content::Streamed(..) => None,
        }
    }

    /// Octets in all, where that is known beforehand.
    pub(super) fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

impl From<Bytes> for CallBody {
    fn from(octets: Bytes) -> Self {
        Self(Content::Inline(octets))
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Content::Inline(octets) if octets.is_empty() => Poll::Ready(None),
            Content::Inline(octets) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(octets))))),
            Content::Streamed(body, left) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                if let (Some(left), Some(Ok(frame))) = (left, &frame) {
                    *left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len) as u64);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Inline(octets) => octets.is_empty(),
            Content::Streamed(_, Some(left)) => *left == 0,
            Content::Streamed(body, None) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Inline(octets) => SizeHint::with_exact(octets.len() as u64),
            Content::Streamed(_, Some(left)) => SizeHint::with_exact(*left),
            Content::Streamed(body, None) => body.size_hint(),
        }
    }
}
