//! The layers of the admin listener, the outermost first.
//!
//! Owns their order. Operators ask seldom, so a layer may be a function of axum's, which boxes its
//! future.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::middleware::from_fn_with_state;
use http::header::X_CONTENT_TYPE_OPTIONS;
use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Service, ServiceBuilder};
use tower_http::set_header::SetResponseHeaderLayer;

use super::{ConsoleSettings, admitted, resources};
use crate::api::response;
use crate::listener::{IncomingBody, PanicLayer, TracedBody, request_trace};

/// The service of the admin listener.
pub fn service(
    settings: ConsoleSettings,
) -> impl Service<
    Request<IncomingBody>,
    Response = Response<TracedBody>,
    Error = Infallible,
    Future: Send,
> + Clone {
    ServiceBuilder::new()
        .map_request(|request: Request<IncomingBody>| request.map(Body::new))
        .service(layered(settings))
}

/// The same for a body of axum's.
pub(super) fn layered(
    settings: ConsoleSettings,
) -> impl Service<Request<Body>, Response = Response<TracedBody>, Error = Infallible, Future: Send> + Clone
{
    let [gateway_origin, caching, referrer] = response::marks();
    let sniffing = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let hosts: Arc<[String]> = settings.hosts.clone().into();
    ServiceBuilder::new()
        // Around everything: its line tells the status that the operator gets.
        .layer(request_trace("admin"))
        // Around all that answers: a refusal and a panic carry these fields, too. Each stands aside
        // for what a resource says itself, as the operators' API does about caching.
        .layer(unless_said(sniffing))
        .layer(unless_said(referrer))
        .layer(unless_said(caching))
        .layer(unless_said(gateway_origin))
        // Around all that reads what was sent.
        .layer(PanicLayer)
        // Around the router and not in it: whether a request may be answered is asked before its
        // path and its method are.
        .layer(from_fn_with_state(hosts, admitted))
        .service(resources(settings))
}

fn unless_said((name, value): (HeaderName, HeaderValue)) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, value)
}
