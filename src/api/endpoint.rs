//! Endpoints, the rows of the router: each with its method, path, handler and description.
//!
//! The routers and the `OpenAPI` document are folds over the same rows, so an endpoint without a
//! description cannot exist. Paths are those behind the prefix.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use super::extract::ApiState;
use super::openapi::{Description, Paths};

/// One endpoint.
pub(super) struct Endpoint {
    method: Method,
    path: &'static str,
    handler: MethodRouter<ApiState>,
    description: Description,
}

/// An endpoint that is asked with GET, and answers HEAD.
pub(super) fn get<H, T>(path: &'static str, handler: H, description: Description) -> Endpoint
where
    H: Handler<T, ApiState>,
    T: 'static,
{
    let handler = on(MethodFilter::GET, handler);
    Endpoint { method: Method::GET, path, handler, description }
}

/// An endpoint that is asked with POST.
pub(super) fn post<H, T>(path: &'static str, handler: H, description: Description) -> Endpoint
where
    H: Handler<T, ApiState>,
    T: 'static,
{
    let handler = on(MethodFilter::POST, handler);
    Endpoint { method: Method::POST, path, handler, description }
}

/// An endpoint that is asked with PATCH.
pub(super) fn patch<H, T>(path: &'static str, handler: H, description: Description) -> Endpoint
where
    H: Handler<T, ApiState>,
    T: 'static,
{
    let handler = on(MethodFilter::PATCH, handler);
    Endpoint { method: Method::PATCH, path, handler, description }
}

/// An endpoint that is asked with DELETE.
pub(super) fn delete<H, T>(path: &'static str, handler: H, description: Description) -> Endpoint
where
    H: Handler<T, ApiState>,
    T: 'static,
{
    let handler = on(MethodFilter::DELETE, handler);
    Endpoint { method: Method::DELETE, path, handler, description }
}

impl Endpoint {
    /// The same, described as one of the admin listener alone, which asks for no credential.
    pub(super) fn for_operators(mut self) -> Self {
        self.description = self.description.explained("On the admin listener only.").open();
        self
    }
}

/// The router of these endpoints.
pub(super) fn routed(rows: Vec<Endpoint>) -> Router<ApiState> {
    rows.into_iter().fold(Router::new(), |router, row| router.route(row.path, row.handler))
}

/// Adds what is said of these endpoints.
pub(super) fn described(rows: &[Endpoint], prefix: &str, paths: &mut Paths) {
    for Endpoint { method, path, description, .. } in rows {
        paths.add(&format!("{prefix}{path}"), method, description);
    }
}
