//! Request screening: the checks that hold for every request, wherever it is meant to go.
//!
//! Owns what no path and no route would make good: barred methods, targets that are no path, fields
//! that contradict each other, and requests that have come round in a circle. Its invariant: nothing
//! behind it sees a request whose source is unknown.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, Ready, ready};
use http::{Method, Request, Version};
use tower::{Layer, Service};

use super::FrontState;
use crate::api::{Peer, Problem, only};
use crate::listener::IncomingBody;
use cloakroom_domain::http::forwarded::RequestSender;
use cloakroom_domain::http::{hygiene, public_url, via};

/// Methods that are never passed on, in any case; some servers answer TRACK as TRACE.
const BARRED: [&str; 3] = ["TRACE", "TRACK", "CONNECT"];

/// The usual methods of what is passed on, for who asks for one that never is.
const PASSED_ON: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The client of a request, known before any decision.
pub(super) struct RequestSource {
    pub(super) peer: SocketAddr,
    pub(super) sender: RequestSender,
    pub(super) host: Option<String>,
}

/// A request that has passed the screening.
pub(super) struct ScreenedRequest {
    pub(super) request: Request<IncomingBody>,
    pub(super) source: RequestSource,
}

/// Screens requests by the settings of a front.
#[derive(Clone)]
pub(super) struct ScreenLayer(Arc<FrontState>);

impl ScreenLayer {
    pub(super) fn new(front: Arc<FrontState>) -> Self {
        Self(front)
    }
}

impl<S> Layer<S> for ScreenLayer {
    type Service = Screen<S>;

    fn layer(&self, inner: S) -> Screen<S> {
        Screen { inner, front: self.0.clone() }
    }
}

/// A service that gets screened requests only.
#[derive(Clone)]
pub(super) struct Screen<S> {
    inner: S,
    front: Arc<FrontState>,
}

impl<S> Service<Request<IncomingBody>> for Screen<S>
where
    S: Service<ScreenedRequest, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<IncomingBody>) -> Self::Future {
        match source(&self.front, &request) {
            Ok(source) => Either::Left(self.inner.call(ScreenedRequest { request, source })),
            Err(problem) => Either::Right(ready(Ok(problem.into_response()))),
        }
    }
}

/// The source of a request, or why it is refused.
fn source(front: &FrontState, request: &Request<IncomingBody>) -> Result<RequestSource, Problem> {
    let (headers, target) = (request.headers(), request.uri().path());
    // TRACE would show its sender what the gateway adds, and CONNECT passes every route by.
    let method = request.method().as_str();
    if BARRED.iter().any(|name| method.eq_ignore_ascii_case(name)) {
        return Err(Problem::method_not_allowed(PASSED_ON));
    }
    // RFC 9112 section 3.2.4: the asterisk is for OPTIONS alone.
    let is_whole = target == "*" && request.method() == Method::OPTIONS;
    if !(target.starts_with('/') || is_whole) {
        return Err(Problem::malformed_path("the request target is not a path: begin with /"));
    }
    hygiene::screen(headers, &front.trusted_fields)?;
    if headers.contains_key("cdn-loop") && via::is_loop(headers, &front.gateway_id) {
        return Err(Problem::came_back());
    }
    let host = public_url::host(headers)?;
    if host.is_none() && request.version() != Version::HTTP_10 {
        return Err(public_url::HostProblem::Missing.into());
    }
    let Peer(peer) = *request.extensions().get::<Peer>().ok_or_else(Problem::internal)?;
    let sender = RequestSender::of(peer.ip(), &front.api.settings.trusted_proxies, headers);
    if sender.peer_trusted {
        // Upstreams rely on it where nothing is routed, too.
        front.trusted_fields.iter().try_for_each(|name| only(headers, name).map(drop))?;
    }
    Ok(RequestSource { peer, sender, host })
}
