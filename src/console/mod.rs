//! The admin listener: liveness, readiness, metrics, and the operators' API.
//!
//! Owns what stands beside the operators' API and who may speak to any of it. Its
//! invariant: nothing is answered before [`guard`] has admitted the request, and nothing
//! here lets another origin read it. It must not know how operations are shown: that
//! router is given to it.

mod guard;
mod metrics;
mod stack;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, StatusCode};

use crate::api::Problem;
use crate::api::queue_status::ReadQueueStatus;
use crate::telemetry::Metrics;
pub use stack::service;

/// Says why the gateway takes on nothing at present, if so.
pub type ReadinessCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The settings and parts of the admin listener.
#[derive(Clone)]
pub struct ConsoleSettings {
    /// Names, in lower case and without a port, that it answers to besides localhost and
    /// IP literals.
    pub hosts: Vec<String>,
    /// The path under which the operators' API lives: begins with `/`, does not end with it.
    pub prefix: String,
    /// The operators' API, its paths without the prefix.
    pub operators: Router,
    /// Whether the gateway is ready.
    pub ready: ReadinessCheck,
    /// How queues and upstreams stand.
    pub look: ReadQueueStatus,
    /// The recorded metrics.
    pub metrics: Metrics,
}

struct ConsoleState {
    prefix: String,
    ready: ReadinessCheck,
    look: ReadQueueStatus,
    metrics: Metrics,
}

/// The resources of the admin listener, which lie behind its guard.
fn resources(settings: ConsoleSettings) -> Router {
    let ConsoleSettings { prefix, operators, ready, look, metrics, .. } = settings;
    let shared = Arc::new(ConsoleState { prefix, ready, look, metrics });
    Router::new()
        .route("/", get(index))
        .route("/livez", get(|| async { text("alive\n") }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .with_state(Arc::clone(&shared))
        .nest(&shared.prefix, operators)
        .fallback(|| async { Problem::no_such_resource() })
}

/// Hands a request on that the guard admits, and says why it does not admit another.
async fn admitted(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    match guard::admit(request.method(), request.uri(), request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(guard::AdmissionError::NotJson) => without_json(next, request).await,
        Err(guard::AdmissionError::Misdirected) => Problem::misdirected().into_response(),
        Err(guard::AdmissionError::SentByGateway) => Problem::came_back().into_response(),
        Err(guard::AdmissionError::ForeignPage) => Problem::cross_site().into_response(),
    }
}

async fn index(State(shared): State<Arc<ConsoleState>>) -> Response {
    let prefix = &shared.prefix;
    text(format!(
        "cloakroom, the operators' listener\n\n\
         /livez               200 while the process serves requests\n\
         /readyz              200 while it accepts requests\n\
         /metrics             for Prometheus\n\
         {prefix}/operations  every operation; see also `cloakroom ops list`\n\
         {prefix}/queues      backlog of every queue; see also `cloakroom queues`\n"
    ))
}

async fn readyz(State(shared): State<Arc<ConsoleState>>) -> Response {
    match (shared.ready)() {
        Ok(()) => text("ready\n"),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, text(format!("not ready: {reason}\n")))
            .into_response(),
    }
}

async fn scrape(State(shared): State<Arc<ConsoleState>>) -> Response {
    match (shared.look)().await {
        Ok(standing) => metrics::set(&standing),
        // What is counted as it happens is told all the same.
        Err(error) => tracing::warn!(%error, "the status of the queues could not be read"),
    }
    let body = shared.metrics.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

/// Answers a request that has to say JSON and does not: with 404 or 405 where those hold, as
/// it would have to be sent otherwise anyway, else with 415.
async fn without_json(next: Next, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let method = std::mem::replace(&mut parts.method, Method::OPTIONS);
    // No resource takes OPTIONS, so this does nothing but learn what the path takes.
    let refused = next.run(Request::from_parts(parts, Body::empty())).await;
    let allowed = refused.headers().get(ALLOW).and_then(|value| value.to_str().ok());
    let takes = |allowed: &str| allowed.split(',').any(|one| one.trim() == method.as_str());
    if allowed.is_some_and(takes) { Problem::not_said_json().into_response() } else { refused }
}

fn text(body: impl Into<String>) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

#[cfg(test)]
mod tests;
