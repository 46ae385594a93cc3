//! The place of a request: the gateway's own, a route, or the upstream as it is.
//!
//! Owns the order: the prefix, preflights, the screening of paths, routes, and what is
//! excepted from them. Its invariant: a request that an upstream could take for one that a
//! route takes never passes as one that no route takes. A pure function of the request's
//! head.

use http::{HeaderMap, Method, Version, header};

use super::route::Route;
use super::tunnel;
use crate::api::{Problem, is_resource};
use crate::domain::http::disguise::{self, Disguise};
use crate::domain::http::path::{self, PathProblem};
use crate::domain::http::pattern::Captures;
use crate::domain::http::route_table::{RouteTable, RoutedMethods};
use crate::upstream::Upstream;

/// The place of a request.
pub(super) enum Place<'f> {
    /// Among the gateway's own resources: the path beneath the prefix.
    Own(String),
    /// A preflight that the gateway answers.
    Preflight {
        /// For one of the gateway's own resources; else for a route.
        is_own: bool,
    },
    /// On a route.
    Routed(&'f Route, Captures),
    /// On a route that leaves it to the upstream, once its principal is known.
    Excepted(&'f Upstream),
    /// Refused, once its principal is known: an upstream could read it as a request that a
    /// route takes.
    Disguised(Problem),
    /// On no route.
    Unrouted {
        /// Some servers would take it for a request that a route takes: its principal has to
        /// be known.
        is_near: bool,
    },
}

/// The settings that decide a place.
pub(super) struct Placing<'f> {
    pub(super) prefix: &'f str,
    /// Whether a path beneath the prefix that is not the gateway's is like any other.
    pub(super) prefix_pass: bool,
    pub(super) routes: &'f RouteTable<Route>,
    pub(super) methods: &'f RoutedMethods,
    pub(super) upgrades: &'f [String],
    /// Whether principals are told apart.
    pub(super) has_principals: bool,
}

/// The head of a request, as far as its place depends on it.
#[derive(Clone, Copy)]
pub(super) struct Head<'r> {
    pub(super) method: &'r Method,
    pub(super) path: &'r str,
    pub(super) query: Option<&'r str>,
    pub(super) version: Version,
    pub(super) headers: &'r HeaderMap,
    /// The method that a preflight of a page with leave asks for.
    pub(super) preflight: Option<&'r Method>,
}

impl<'f> Placing<'f> {
    /// The place of a request.
    pub(super) fn place(&self, head: Head<'_>) -> Result<Place<'f>, Problem> {
        if let Some(rest) = path::beneath(self.prefix, head.path) {
            let is_own = !self.prefix_pass || is_resource(&rest);
            match path::screen(head.path) {
                // npm writes the slash behind a scope so. Where a route may take the path, it is
                // screened once more below.
                Err(PathProblem::EncodedSlash) if !is_own => {
                    path::screen(&path::with_slashes(head.path))?;
                }
                screened => screened?,
            }
            if is_own {
                let is_preflight = head.preflight.is_some();
                return Ok(if is_preflight {
                    Place::Preflight { is_own: true }
                } else {
                    Place::Own(rest)
                });
            }
        }
        if let Some(asked) = head.preflight
            && self.routes.find(asked, head.path).is_some()
        {
            return Ok(Place::Preflight { is_own: false });
        }
        if self.methods.contains(head.method) {
            path::screen(head.path)?;
            if let Some((route, captures)) = self.routes.find(head.method, head.path) {
                return Ok(self.on_route(head, route, captures));
            }
        }
        self.beside_routes(head)
    }

    fn on_route(&self, head: Head<'_>, route: &'f Route, captures: Captures) -> Place<'f> {
        let is_upgrade =
            tunnel::protocol(head.method, head.version, head.headers, self.upgrades).is_some();
        if is_upgrade || (route.is_implicit() && is_excepted(head.headers)) {
            return Place::Excepted(route.upstream());
        }
        Place::Routed(route, captures)
    }

    /// The place of what no route takes as it stands.
    fn beside_routes(&self, head: Head<'_>) -> Result<Place<'f>, Problem> {
        let is_named = |method: &Method| self.routes.names(method);
        let others = disguise::methods(head.method, head.query, head.headers, is_named);
        // Servers answer HEAD with what they would answer GET with.
        let is_head = head.method.as_str().eq_ignore_ascii_case(Method::HEAD.as_str());
        let usual = if is_head { &Method::GET } else { head.method };
        if others.is_empty() && !self.methods.contains(usual) {
            return Ok(Place::Unrouted { is_near: self.has_form_method(head) });
        }
        path::screen(head.path)?;
        if let Some((route, _)) = self.routes.find(usual, head.path) {
            return Ok(Place::Excepted(route.upstream()));
        }
        if let Some(problem) = self.disguised(head, usual, &others) {
            return Ok(Place::Disguised(problem));
        }
        let is_near = self.has_principals && self.resembles_routed(head, usual, &others);
        Ok(Place::Unrouted { is_near: is_near || self.has_form_method(head) })
    }

    /// Whether some servers would take it for a request that a route takes, by any method and
    /// any path that they could read it with.
    fn resembles_routed(
        &self,
        head: Head<'_>,
        usual: &Method,
        others: &[Disguise<Method>],
    ) -> bool {
        let resembles = |path: &str| {
            let mut methods = others.iter().map(|other| &other.says).chain([usual]);
            methods.any(|method| self.routes.resembles(method, path))
        };
        resembles(head.path) || disguise::paths(head.headers).any(|other| resembles(&other.says))
    }

    /// Whether a method in the body could make a POST one that a route takes.
    fn has_form_method(&self, head: Head<'_>) -> bool {
        self.has_principals
            && head.method == Method::POST
            && may_be_form(head.headers)
            && self.routes.resembles_path(head.path)
    }

    /// The refusal of a request that is another one by its fields or its query.
    fn disguised(
        &self,
        head: Head<'_>,
        usual: &Method,
        others: &[Disguise<Method>],
    ) -> Option<Problem> {
        let is_routed = |method: &Method, path: &str| self.routes.find(method, path).is_some();
        let by_method = others.iter().find(|other| is_routed(&other.says, head.path));
        if let Some(other) = by_method {
            return Some(Problem::disguised_method(other.by, &other.says));
        }
        let methods = || others.iter().map(|other| &other.says).chain([usual]);
        let leads_to_route = |path: &str| {
            path::screen(path).is_err() || methods().any(|method| is_routed(method, path))
        };
        let by_path = disguise::paths(head.headers).find(|other| leads_to_route(&other.says));
        by_path.map(|other| Problem::disguised_path(other.by))
    }
}

/// Whether servers would read the body as a form: they do so where no type is named, too.
fn may_be_form(headers: &HeaderMap) -> bool {
    const FORMS: [&[u8]; 2] = [b"application/x-www-form-urlencoded", b"multipart/"];
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().map(http::HeaderValue::as_bytes);
    let begins = |value: &[u8], with: &[u8]| {
        value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let is_named = headers.contains_key(header::CONTENT_TYPE);
    !is_named || types.any(|value| FORMS.iter().any(|form| begins(value, form)))
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
