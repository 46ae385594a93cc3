//! The routers of the public and the admin listener. Paths are those behind the prefix.
//!
//! Owns 404 and 405 beneath the prefix. Where callers are told apart, those too are for
//! a caller with a principal, except where the token in the path is the credential.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use super::extract::{ApiState, RequestContext, Side};
use super::queue_status::ReadQueueStatus;
use super::{Api, Problem, response, webhooks};
use super::{
    cancel, delete, events, list, monitor, nodes, openapi, progress, queues, reconcile, reseal,
    result, retry, serial, status, tree, verdict,
};

/// The first segments of the paths that are the gateway's own, whatever follows.
const OWN: [&str; 5] = ["operations", "webhooks", "batches", "schedules", "openapi.json"];

/// Whether a path beneath the prefix is the gateway's own, though the prefix be shared with
/// the upstream.
pub fn is_resource(rest: &str) -> bool {
    let first = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
    OWN.contains(&first)
}

/// The resources of the public listener.
pub fn public_router(api: Api) -> Router {
    let router = shared().route("/operations/{ticket}/progress/{token}", post(progress::report));
    finished(router, api, Side::Public)
}

/// The resources of the admin listener: the same for operators, and what is only theirs.
pub fn operators_router(api: Api, look: ReadQueueStatus) -> Router {
    let router = shared()
        .route("/operations/{ticket}/retry", post(retry::retry))
        .route("/operations/{ticket}/verdict", post(verdict::give))
        .route("/nodes", get(nodes::show))
        .route("/reconcile", post(reconcile::reconcile))
        .route("/secrets/reseal", post(reseal::reseal))
        .route("/serial", get(serial::list))
        .route("/serial/{name}/release", post(serial::release))
        .route("/queues/{queue}/pause", pausing(look.clone(), true))
        .route("/queues/{queue}/resume", pausing(look.clone(), false))
        .route("/queues", get(move |context: RequestContext| queues::show(look.clone(), context)));
    finished(router, api, Side::Operators)
}

fn pausing(look: ReadQueueStatus, paused: bool) -> MethodRouter<ApiState> {
    post(move |context: RequestContext, Path(queue): Path<String>| {
        queues::pause(look.clone(), context, queue, paused)
    })
}

fn shared() -> Router<ApiState> {
    webhooks::with_webhooks(Router::new())
        .route("/operations", get(list::show))
        .route("/operations/{ticket}", get(monitor::show).delete(delete::delete))
        .route("/operations/{ticket}/status", get(status::show))
        .route("/operations/{ticket}/result", get(result::show))
        .route("/operations/{ticket}/events", get(events::show))
        .route("/operations/{ticket}/cancel", post(cancel::cancel))
        .route("/operations/{ticket}/tree", get(tree::show))
        .route("/operations/{ticket}/deliveries", get(webhooks::callbacks::list))
        .route("/openapi.json", get(described))
}

fn finished(router: Router<ApiState>, api: Api, side: Side) -> Router {
    router
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(ApiState { api, side })
}

async fn described(_visit: RequestContext) -> Response {
    let text = openapi::document();
    let mut response = response::empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(response::JSON_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    *response.body_mut() = Body::from(text);
    response
}

async fn nothing(State(state): State<ApiState>, _visit: RequestContext) -> Response {
    let problem = match state.side {
        Side::Public => Problem::no_such_resource_in_public(),
        Side::Operators => Problem::no_such_resource(),
    };
    problem.into_response()
}

/// The router adds `Allow`, which it alone knows.
async fn wrong_method(_visit: RequestContext) -> Response {
    Problem::wrong_method().into_response()
}
