//! The proxy for requests that no route takes: streams both ways, stores nothing.
//!
//! Owns what changes on the way: the fields that may not pass, and locations that name
//! the upstream. It must not know of operations.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use url::Url;

use super::silence_timeout::SilenceTimeout;
use super::tunnel::{self, Tunnel};
use super::{FrontState, Lifespan, RequestSource, body};
use crate::api::{Problem, response};
use crate::listener::{ExchangeGuard, IncomingBody};
use crate::upstream::{ResponseBody, ResponseReceived, Upstream, UpstreamError};
use cloakroom_domain::http::location::OwnOrigins;
use cloakroom_domain::http::{forwarded, hygiene, relocation};
use cloakroom_domain::operation::{ErrorCode, SendState};

impl FrontState {
    /// Passes a request on, and its answer back.
    pub(super) async fn proxy(
        &self,
        mut request: Request<IncomingBody>,
        upstream: &Upstream,
        caller: &RequestSource,
    ) -> Result<Response, Problem> {
        let (method, version) = (request.method().clone(), request.version());
        let protocol = tunnel::protocol(&method, version, request.headers(), &self.upgrades);
        let client = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
        let occupied = request.extensions_mut().remove::<ExchangeGuard>();
        let target =
            request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let base = self.base(request.headers(), caller).ok();
        self.dress(request.headers_mut(), (caller, version), (upstream, Lifespan::Passing));
        let called = forwarded::told(request.headers());
        let called = called.into_iter().chain(upstream.settings().called(request.headers()));
        let called: Vec<Url> = called.collect();
        forwarded::repeat(request.headers_mut());
        if let Some(protocol) = protocol.clone() {
            request.headers_mut().insert(UPGRADE, protocol);
        }
        request.body_mut().stream();
        if let Some(occupied) = &occupied {
            occupied.is_for_client();
        }
        let limit = upstream.settings().response_timeout;
        let silence = SilenceTimeout::new(self.api.clock.clone(), limit);
        let request = request.map(|body| silence.of_request(body));
        let mut response = tokio::select! {
            biased;
            forwarded = upstream.forward(request) => {
                forwarded.map_err(|broken| told(&broken, &method, upstream, occupied.as_ref()))?
            }
            () = Arc::clone(&silence).is_over() => return Err(silent(&method, upstream)),
        };
        if let Some(broken) = response.body_mut().first_fault().await
            && stands_for_answer(&broken, version, response.body())
        {
            return Err(told(&broken, &method, upstream, occupied.as_ref()));
        }
        hygiene::response_fields_from_upstream(response.headers_mut());
        if response.status() == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6. hyper would pass on the one in an answer to HEAD.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        if let Some(base) = base {
            relocate(response.headers_mut(), upstream, (&target, &base), called);
        }
        let from_upstream = HeaderValue::from_static("upstream");
        response.headers_mut().insert(response::GATEWAY_ORIGIN, from_upstream);
        match (client, protocol) {
            (Some(client), Some(protocol)) if is_switch(&response) => {
                let headers = response.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, protocol.clone());
                let upstream = hyper::upgrade::on(&mut response);
                let tunnel = Tunnel { client, upstream, protocol, occupied };
                tunnel.open(&self.lifecycles, self.api.clock.clone());
                Ok(response.map(|_| Body::empty()))
            }
            _ => Ok(response.map(|body| Body::new(silence.of_answer(body)))),
        }
    }
}

fn is_switch(response: &http::Response<ResponseBody>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether the client is told what is wrong with the body of an answer in place of that answer.
///
/// Half an answer is passed on and cut: its status and its fields tell what was done. A client of
/// HTTP/1.0 would take one without a length for a whole one.
fn stands_for_answer(broken: &UpstreamError, version: Version, body: &ResponseBody) -> bool {
    let is_unreadable = matches!(broken.received, ResponseReceived::Unreadable { .. });
    is_unreadable || (version < Version::HTTP_11 && body.length().is_none())
}

/// Puts locations that name the upstream, or what it was told to be, onto the public
/// origin.
fn relocate(
    headers: &mut HeaderMap,
    upstream: &Upstream,
    (target, base): (&str, &str),
    called: Vec<Url>,
) {
    let public: Vec<Url> = base.parse().into_iter().chain(called).collect();
    let home = OwnOrigins { upstream: &upstream.settings().origin, public: &public };
    relocation::pass(headers, home, target, base);
}

/// The upstream has not begun to answer in time.
fn silent(method: &Method, upstream: &Upstream) -> Problem {
    let settings = upstream.settings();
    tracing::warn!(
        upstream = &*settings.name,
        %method,
        seconds = settings.response_timeout.as_secs_f64(),
        "an upstream did not answer a request that was passed on; where it takes that long, raise \
         its response_timeout"
    );
    Problem::upstream_silent(advice(SendState::Perhaps, method))
}

fn told(
    broken: &UpstreamError,
    method: &Method,
    upstream: &Upstream,
    client: Option<&ExchangeGuard>,
) -> Problem {
    if client.is_some_and(ExchangeGuard::was_too_slow) {
        return Problem::too_slow();
    }
    if client.is_some_and(ExchangeGuard::broke_off) {
        return body::broke_off();
    }
    let name = &*upstream.settings().name;
    tracing::warn!(upstream = name, %method, error = %broken, "a request could not be proxied");
    if broken.is_own {
        return Problem::out_of_files();
    }
    match broken.cause {
        ErrorCode::UpstreamUnreachable => Problem::upstream_unreachable(),
        ErrorCode::UpstreamTimeout => Problem::upstream_silent(advice(broken.sent, method)),
        _ => Problem::upstream_broken(format!("{}: {}", what(broken), advice(broken.sent, method))),
    }
}

fn what(broken: &UpstreamError) -> &'static str {
    match broken.received {
        ResponseReceived::Nothing => "the upstream broke off before its answer was whole",
        ResponseReceived::Unreadable { .. } => {
            "what the upstream sent cannot be read as an answer of http"
        }
    }
}

/// What the client can do. A request that may have been carried out, and must not be twice, is no
/// request to send again.
fn advice(sent: SendState, method: &Method) -> &'static str {
    if sent == SendState::Nothing || method.is_idempotent() {
        "check that the upstream is running, then try again"
    } else {
        "the request may have been carried out: look at the upstream whether it was, before you \
         send another"
    }
}
