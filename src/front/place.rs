//! Where a request belongs.
//!
//! Owns the order: the prefix, preflights, the screening of paths, routes, and what is
//! excepted from them. A pure function of the request's head.

use http::{HeaderMap, Method, header};

use super::route::Route;
use super::tunnel;
use crate::api::Problem;
use crate::domain::http::path;
use crate::domain::http::pattern::Captures;
use crate::domain::http::route_table::{RouteTable, RoutedMethods};
use crate::upstream::Upstream;

/// Where a request belongs.
pub(super) enum Place<'f> {
    /// To the gateway's own resources: the path beneath the prefix.
    Own(String),
    /// A preflight that the gateway answers.
    Preflight,
    /// To a route.
    Routed(&'f Route, Captures),
    /// To an upstream, as it is.
    Proxied(&'f Upstream),
}

/// What places are found by.
pub(super) struct Placing<'f> {
    pub(super) prefix: &'f str,
    pub(super) routes: &'f RouteTable<Route>,
    pub(super) methods: &'f RoutedMethods,
    pub(super) upgrades: &'f [String],
}

impl<'f> Placing<'f> {
    /// The place of a request; none where no route takes it.
    pub(super) fn place(
        &self,
        method: &Method,
        raw_path: &str,
        headers: &HeaderMap,
        is_preflight: impl Fn() -> bool,
    ) -> Result<Option<Place<'f>>, Problem> {
        if let Some(rest) = path::beneath(self.prefix, raw_path) {
            path::screen(raw_path)?;
            return Ok(Some(if is_preflight() { Place::Preflight } else { Place::Own(rest) }));
        }
        if is_preflight() && self.routes.names_path(raw_path) {
            return Ok(Some(Place::Preflight));
        }
        if !self.methods.contains(method) {
            return Ok(None);
        }
        path::screen(raw_path)?;
        let Some((route, captures)) = self.routes.find(method, raw_path) else { return Ok(None) };
        let excepted = route.is_implicit() && is_excepted(headers);
        if excepted || tunnel::protocol(headers, self.upgrades).is_some() {
            return Ok(Some(Place::Proxied(route.upstream())));
        }
        Ok(Some(Place::Routed(route, captures)))
    }
}

/// What the route that takes every POST is not meant for: gRPC, whose clients know no
/// 202, and the forms of pages, whose readers would be shown one.
fn is_excepted(headers: &HeaderMap) -> bool {
    let begins = |name: &str, with: &str| {
        let value = headers.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
        value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    begins(header::CONTENT_TYPE.as_str(), "application/grpc")
        || begins("sec-fetch-mode", "navigate")
}
