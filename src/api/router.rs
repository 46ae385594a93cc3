//! The routers of the public and the admin listener: one row for each endpoint.
//!
//! Owns 404 and 405 beneath the prefix. Where callers are told apart, those too are for
//! a caller with a principal, except where the token in the path is the credential.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};

use super::endpoint::{self, Endpoint, get, post};
use super::extract::{ApiState, RequestContext, Side};
use super::openapi::Paths;
use super::queue_status::ReadQueueStatus;
use super::{Api, Problem, webhooks};
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
    finished(endpoint::routed(public_rows()), api, Side::Public)
}

/// The resources of the admin listener: the same for operators, and what is only theirs.
pub fn operators_router(api: Api, look: ReadQueueStatus) -> Router {
    let rows = shared_rows().into_iter().chain(operators_rows()).collect();
    finished(endpoint::routed(rows), api, Side::Operators).layer(Extension(look))
}

/// The description of the resources of the public listener, under a prefix.
pub(super) fn described(prefix: &str, paths: &mut Paths) {
    endpoint::described(&public_rows(), prefix, paths);
}

/// The description of what only the admin listener has.
pub(super) fn described_for_operators(prefix: &str, paths: &mut Paths) {
    let rows: Vec<_> = operators_rows().into_iter().map(Endpoint::for_operators).collect();
    endpoint::described(&rows, prefix, paths);
}

fn public_rows() -> Vec<Endpoint> {
    let path = "/operations/{ticket}/progress/{token}";
    let mut rows = shared_rows();
    rows.push(post(path, progress::report, progress::description()));
    rows
}

fn operators_rows() -> Vec<Endpoint> {
    vec![
        post("/operations/{ticket}/retry", retry::retry, retry::description()),
        post("/operations/{ticket}/verdict", verdict::give, verdict::description()),
        get("/nodes", nodes::show, nodes::description()),
        post("/reconcile", reconcile::reconcile, reconcile::description()),
        post("/secrets/reseal", reseal::reseal, reseal::description()),
        get("/serial", serial::list, serial::description()),
        post("/serial/{name}/release", serial::release, serial::release_description()),
        get("/queues", queues::show, queues::description()),
        post("/queues/{queue}/pause", queues::pause, queues::pause_description()),
        post("/queues/{queue}/resume", queues::resume, queues::resume_description()),
    ]
}

fn shared_rows() -> Vec<Endpoint> {
    let mut rows = vec![
        get("/operations", list::show, list::description()),
        get("/operations/{ticket}", monitor::show, monitor::description()),
        endpoint::delete("/operations/{ticket}", delete::delete, delete::description()),
        get("/operations/{ticket}/status", status::show, status::description()),
        get("/operations/{ticket}/result", result::show, result::description()),
        get("/operations/{ticket}/events", events::show, events::description()),
        post("/operations/{ticket}/cancel", cancel::cancel, cancel::description()),
        get("/operations/{ticket}/tree", tree::show, tree::description()),
        get("/openapi.json", openapi::show, openapi::description()),
    ];
    rows.extend(webhooks::rows());
    rows
}

fn finished(router: Router<ApiState>, api: Api, side: Side) -> Router {
    router
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(ApiState { api, side })
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
