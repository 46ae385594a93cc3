//! The edge between hyper and the layers: one exchange of a connection.
//!
//! Owns what an exchange has of its connection: the guard that keeps the connection from counting as
//! idle, the deadlines of the request's body, and the peer. Everything within is a tower service.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::util::Oneshot;
use tower::{Service, ServiceExt};

use super::ListenerLimits;
use super::body::{BodyDeadlines, IncomingBody, OutgoingBody};
use super::socket::{ActiveExchanges, ExchangeGuard};
use crate::api::principal::Peer;
use cloakroom_runtime::clock::Clock;

/// The answers to the requests of one connection.
pub(super) struct Exchanges<S> {
    pub(super) service: S,
    pub(super) peer: SocketAddr,
    pub(super) active: Arc<ActiveExchanges>,
    pub(super) clock: Clock,
    pub(super) limits: Arc<ListenerLimits>,
}

impl<S> Exchanges<S> {
    /// The request as the layers get it.
    fn request(&self, request: Request<Incoming>, guard: &ExchangeGuard) -> Request<IncomingBody> {
        let (body_timeout, body_deadline) = (self.limits.body_timeout, self.limits.body_deadline);
        let deadlines = BodyDeadlines::new(self.clock.clone(), body_timeout, body_deadline);
        let (mut head, incoming) = request.into_parts();
        let mut body = IncomingBody::new(incoming, deadlines, guard.clone());
        if head.version == Version::HTTP_11 {
            body.expect(&head.headers);
        }
        head.extensions.insert(Peer(self.peer));
        head.extensions.insert(guard.clone());
        Request::from_parts(head, body)
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Exchanges<S>
where
    S: Service<Request<IncomingBody>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body,
{
    type Response = Response<OutgoingBody<B>>;
    type Error = Infallible;
    type Future = ExchangeFuture<Oneshot<S, Request<IncomingBody>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Before hyper looks at the socket again: octets of a body begin no head.
        let guard = self.active.enter();
        let request = self.request(request, &guard);
        ExchangeFuture { answer: self.service.clone().oneshot(request), guard }
    }
}

pin_project! {
    /// An exchange until its answer begins.
    pub(super) struct ExchangeFuture<F> {
        #[pin]
        answer: F,
        guard: ExchangeGuard,
    }
}

impl<F, B> Future for ExchangeFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<OutgoingBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut answer) = ready!(this.answer.poll(context));
        this.guard.has_answer();
        if this.guard.has_left_unread() {
            // The client is told, so that it sends nothing further on this connection.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(answer.map(|body| OutgoingBody::new(body, this.guard.clone()))))
    }
}
