//! CORS for pages of other origins (Fetch standard).
//!
//! Owns preflights and the leave to read answers, for the configured origins only. It must not know
//! what is asked. The layer of tower-http answers every preflight by itself, with a list of methods
//! that holds for all paths: here a preflight is granted what its path takes, and one that no route
//! and no resource takes is the upstream's.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::api::response;
use crate::config::CorsOrigins;

/// The gateway's header fields that pages may read.
const EXPOSED: &str = "Location, Content-Location, Operation-Location, Operation-Id, \
                       Retry-After, Preference-Applied, X-Progress, Idempotency-Replayed, \
                       Gateway-Origin, Upstream-Status";

/// How long browsers may remember a preflight, in seconds.
const REMEMBERED: &str = "600";

/// The methods that a preflight is granted.
pub(super) enum GrantedMethods {
    /// The one that is asked for, which a route takes.
    ByRoute,
    /// Those that a resource of the gateway's own takes; none where there is no resource.
    ByResource(Option<HeaderValue>),
}

/// The origins whose pages may use the gateway.
pub(super) struct Cors {
    origins: CorsOrigins,
    off: bool,
}

impl Cors {
    pub(super) fn new(origins: CorsOrigins) -> Self {
        let off = matches!(&origins, CorsOrigins::These(known) if known.is_empty());
        Self { origins, off }
    }

    /// Whether the gateway leaves it to upstreams who may use them from a page.
    pub(super) const fn is_off(&self) -> bool {
        self.off
    }

    /// The origin that a request names, where it has leave.
    pub(super) fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.off {
            return None;
        }
        let origin = headers.get(ORIGIN)?;
        match &self.origins {
            CorsOrigins::Any => Some(HeaderValue::from_static("*")),
            known @ CorsOrigins::These(_) => {
                known.allow(origin.to_str().ok()?).then(|| origin.clone())
            }
        }
    }

    /// The method that a preflight of an origin that has leave asks for.
    pub(super) fn preflight_for(&self, method: &Method, headers: &HeaderMap) -> Option<Method> {
        let asked =
            headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS)?;
        self.origin(headers)?;
        Method::from_bytes(asked.as_bytes()).ok()
    }

    /// The answer to a preflight: the methods that are taken there, and whatever fields it asks
    /// for, since the request itself is judged when it comes.
    pub(super) fn preflight(&self, asked: &HeaderMap, taken: GrantedMethods) -> Response {
        let mut response = response::empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        if let Some(origin) = self.origin(asked) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        let methods = match taken {
            GrantedMethods::ByRoute => asked.get(ACCESS_CONTROL_REQUEST_METHOD).cloned(),
            GrantedMethods::ByResource(methods) => methods,
        };
        let fields = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        for (name, value) in
            [(ACCESS_CONTROL_ALLOW_METHODS, methods), (ACCESS_CONTROL_ALLOW_HEADERS, fields)]
        {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(VARY, HeaderValue::from_static(vary));
        self.leave(&mut response);
        response
    }

    /// Has the layer leave an answer as it is.
    pub(super) fn leave(&self, response: &mut Response) {
        if !self.off {
            response.extensions_mut().insert(CorsDecision::Made);
        }
    }

    /// Gives a page leave to read an answer.
    fn expose(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if self.off {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

/// Marks an answer that says already which pages may read it, or has its upstream say it.
#[derive(Clone, Copy, Debug)]
enum CorsDecision {
    Made,
}

/// Gives pages leave to read the gateway's own answers.
#[derive(Clone)]
pub(super) struct CorsLayer(Arc<Cors>);

impl CorsLayer {
    pub(super) fn new(cors: Arc<Cors>) -> Self {
        Self(cors)
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = CorsService<S>;

    fn layer(&self, inner: S) -> CorsService<S> {
        CorsService { inner, cors: self.0.clone() }
    }
}

/// A service whose answers pages may read.
#[derive(Clone)]
pub(super) struct CorsService<S> {
    inner: S,
    cors: Arc<Cors>,
}

impl<S, B> Service<Request<B>> for CorsService<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ExposedResponse<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let origin = self.cors.origin(request.headers());
        ExposedResponse { answer: self.inner.call(request), cors: self.cors.clone(), origin }
    }
}

pin_project! {
    /// An answer on its way to a page of this origin.
    pub(super) struct ExposedResponse<F> {
        #[pin]
        answer: F,
        cors: Arc<Cors>,
        origin: Option<HeaderValue>,
    }
}

impl<F> Future for ExposedResponse<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.answer.poll(context));
        if response.extensions_mut().remove::<CorsDecision>().is_none() {
            this.cors.expose(response.headers_mut(), this.origin.take());
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn only_named_origins_have_leave_and_answers_vary_by_it() {
        let cors = Cors::new(CorsOrigins::These(vec!["https://app.example".to_owned()]));
        for (origin, leave) in [("https://app.example", true), ("https://app.example.evil", false)]
        {
            let mut answer = HeaderMap::new();
            cors.expose(&mut answer, cors.origin(&asking(origin)));
            assert_eq!(answer.get(ACCESS_CONTROL_ALLOW_ORIGIN).is_some(), leave, "{origin}");
            assert_eq!(answer[VARY], "Origin");
        }
    }

    #[test]
    fn where_nobody_is_named_answers_say_nothing_of_it() {
        let cors = Cors::new(CorsOrigins::default());
        let mut answer = HeaderMap::new();
        cors.expose(&mut answer, cors.origin(&asking("https://app.example")));
        assert!(answer.is_empty());
    }
}
