//! The tracing of requests: a span for each, and a line for its answer.
//!
//! Owns which words of a request are logged: its method and the listener that took it. Its invariant:
//! no target is logged, since paths hold tickets and queries hold what clients look for, and no field
//! and no body.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use tower_http::classify::{
    NeverClassifyEos, ServerErrorsAsFailures, ServerErrorsFailureClass, SharedClassifier,
};
use tower_http::trace::{MakeSpan, OnResponse, ResponseBody, TraceLayer};
use tracing::Span;

/// The layer that traces requests; both listeners have one.
type RequestTraceLayer =
    TraceLayer<SharedClassifier<ServerErrorsAsFailures>, RequestSpan, (), ResponseLine, (), (), ()>;

/// The body of an answer whose request is traced.
pub type TracedBody = ResponseBody<Body, NeverClassifyEos<ServerErrorsFailureClass>, (), (), ()>;

/// Makes the span of a request that the listener of this name took.
#[derive(Clone, Copy, Debug)]
pub struct RequestSpan(&'static str);

/// Logs the status of an answer.
#[derive(Clone, Copy, Debug)]
pub struct ResponseLine;

/// Traces the requests of the listener with this name, from level `debug` on.
pub fn request_trace(listener: &'static str) -> RequestTraceLayer {
    TraceLayer::new_for_http()
        .make_span_with(RequestSpan(listener))
        .on_request(())
        .on_response(ResponseLine)
        .on_body_chunk(())
        .on_eos(())
        // An answer of 5xx is logged where its cause is known.
        .on_failure(())
}

impl<B> MakeSpan<B> for RequestSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        tracing::debug_span!("request", listener = self.0, method = %request.method())
    }
}

impl<B> OnResponse<B> for ResponseLine {
    fn on_response(self, response: &Response<B>, latency: Duration, _: &Span) {
        let (status, seconds) = (response.status().as_u16(), latency.as_secs_f64());
        tracing::debug!(status, seconds, "answered a request");
    }
}
