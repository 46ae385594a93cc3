//! The admin listener: whether the gateway lives and is ready, its metrics, and the
//! operators' API.
//!
//! Owns what stands beside the operators' API and who may speak to any of it. Its
//! invariant: nothing is answered before [`guard`] has admitted the request, and nothing
//! here lets another origin read it. It must not know how operations are shown: that
//! router is given to it.

mod guard;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::telemetry::Metrics;

/// What waits in one queue for one upstream, when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDepth {
    /// The queue's name.
    pub queue: String,
    /// The upstream's name.
    pub upstream: String,
    /// Operations that are ready or due later.
    pub depth: u64,
    /// How long the oldest that is due has been waiting; none where nothing is due.
    pub oldest: Option<Duration>,
}

/// Says why the gateway takes on nothing at present, if so.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Looks at what waits, once for each scrape. Rows of the same queue and upstream are
/// added up.
pub type Depths = Arc<dyn Fn() -> BoxFuture<'static, Vec<QueueDepth>> + Send + Sync>;

/// What the admin listener is made of.
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
    pub ready: Ready,
    /// What waits.
    pub depths: Depths,
    /// What has been recorded.
    pub metrics: Metrics,
}

struct Shared {
    hosts: Vec<String>,
    prefix: String,
    ready: Ready,
    depths: Depths,
    metrics: Metrics,
}

/// Everything that the admin listener answers.
pub fn router(settings: ConsoleSettings) -> Router {
    let ConsoleSettings { hosts, prefix, operators, ready, depths, metrics } = settings;
    let shared = Arc::new(Shared { hosts, prefix, ready, depths, metrics });
    Router::new()
        .route("/", get(index))
        .route("/livez", get(|| async { text("alive\n") }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(Arc::clone(&shared))
        .nest(&shared.prefix, operators)
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(shared, admitted))
}

async fn admitted(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let seen = guard::admit(request.method(), request.uri(), request.headers(), &shared.hosts);
    let mut response = match seen {
        Ok(()) => next.run(request).await,
        Err(refusal) => refused(refusal),
    };
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("gateway-origin"), "cloakroom"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn index(State(shared): State<Arc<Shared>>) -> Response {
    let prefix = &shared.prefix;
    text(format!(
        "cloakroom, the operators' side\n\n\
         /livez               whether the process lives\n\
         /readyz              whether it takes on requests\n\
         /metrics             for Prometheus\n\
         {prefix}/operations  every operation; see also `cloakroom ops list`\n"
    ))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match (shared.ready)() {
        Ok(()) => text("ready\n"),
        Err(reason) => problem(StatusCode::SERVICE_UNAVAILABLE, "not-ready", &reason),
    }
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    metrics::set_depths(&(shared.depths)().await);
    let body = shared.metrics.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
}

async fn unknown() -> Response {
    problem(StatusCode::NOT_FOUND, "not-found", "nothing is here; / lists what there is")
}

fn refused(refusal: guard::Refusal) -> Response {
    match refusal {
        guard::Refusal::Misdirected => problem(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "this listener answers to localhost and to IP addresses; to reach it by another \
             name, add the name to admin.hosts",
        ),
        guard::Refusal::ForeignPage => problem(
            StatusCode::FORBIDDEN,
            "foreign-page",
            "this may come from a page on another origin, so nothing was changed; a program \
             sends Content-Type: application/json and no Origin",
        ),
    }
}

fn problem(status: StatusCode, kind: &str, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": format!("urn:cloakroom:problem:{kind}"),
        "title": kind.replace('-', " "),
        "status": status.as_u16(),
        "detail": detail,
    });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn text(body: impl Into<String>) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

#[cfg(test)]
mod tests;
