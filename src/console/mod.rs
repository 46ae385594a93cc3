//! The admin listener: liveness, readiness, metrics, and the operators' API.
//!
//! Owns what stands beside the operators' API and who may speak to any of it. Its
//! invariant: nothing is answered before [`guard`] has admitted the request, and nothing
//! here lets another origin read it. It must not know how operations are shown: that
//! router is given to it.

mod guard;
mod metrics;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::api::queue_status::ReadQueueStatus;
use crate::api::{Problem, response};
use crate::listener::IncomingBody;
use crate::telemetry::Metrics;

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

/// Everything that the admin listener answers.
pub fn router(settings: ConsoleSettings) -> Router {
    let ConsoleSettings { hosts, prefix, operators, ready, look, metrics } = settings;
    let shared = Arc::new(ConsoleState { prefix, ready, look, metrics });
    let resources = Router::new()
        .route("/", get(index))
        .route("/livez", get(|| async { text("alive\n") }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .with_state(Arc::clone(&shared))
        .nest(&shared.prefix, operators)
        .fallback(|| async { Problem::no_such_resource() });
    // Around the router and not in it: whether a request may be answered is asked before its
    // path and its method are.
    let gate =
        AdmissionGate { hosts: hosts.into(), resources: TowerToHyperService::new(resources) };
    Router::new().fallback(admitted).with_state(gate)
}

/// The gate in front of every resource of the admin listener.
#[derive(Clone)]
struct AdmissionGate {
    hosts: Arc<[String]>,
    resources: TowerToHyperService<Router>,
}

impl AdmissionGate {
    async fn pass(&self, request: Request) -> Response {
        let answer: Result<Response, Infallible> = self.resources.call(request).await;
        answer.unwrap_or_else(|never| match never {})
    }
}

/// The admin listener. Clones share one.
#[derive(Clone)]
pub struct Console(TowerToHyperService<Router>);

impl Console {
    /// The answers for these settings.
    pub fn new(settings: ConsoleSettings) -> Self {
        Self(TowerToHyperService::new(router(settings)))
    }

    /// Answers a request. Never fails: what goes wrong is a problem.
    pub async fn handle(&self, request: http::Request<IncomingBody>) -> Response {
        let answer: Result<Response, Infallible> = self.0.call(request.map(Body::new)).await;
        answer.unwrap_or_else(|never| match never {})
    }
}

async fn admitted(State(gate): State<AdmissionGate>, request: Request) -> Response {
    let seen = guard::admit(request.method(), request.uri(), request.headers(), &gate.hosts);
    let mut response = match seen {
        Ok(()) => gate.pass(request).await,
        Err(guard::AdmissionError::NotJson) => without_json(&gate, request).await,
        Err(guard::AdmissionError::Misdirected) => Problem::misdirected().into_response(),
        Err(guard::AdmissionError::SentByGateway) => Problem::came_back().into_response(),
        Err(guard::AdmissionError::ForeignPage) => Problem::cross_site().into_response(),
    };
    // What the operators' API says about caching stands.
    for (name, value) in own_marks() {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

fn own_marks() -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let mut marks = HeaderMap::new();
    response::mark(&mut marks);
    marks.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    marks.into_iter().filter_map(|(name, value)| Some((name?, value)))
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
async fn without_json(gate: &AdmissionGate, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let method = std::mem::replace(&mut parts.method, Method::OPTIONS);
    // No resource takes OPTIONS, so this does nothing but learn what the path takes.
    let refused = gate.pass(Request::from_parts(parts, Body::empty())).await;
    let allowed = refused.headers().get(ALLOW).and_then(|value| value.to_str().ok());
    let takes = |allowed: &str| allowed.split(',').any(|one| one.trim() == method.as_str());
    if allowed.is_some_and(takes) { Problem::not_said_json().into_response() } else { refused }
}

fn text(body: impl Into<String>) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

#[cfg(test)]
mod tests;
