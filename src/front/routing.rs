//! Routing: whether a request goes to the gateway's own API, a route, or an upstream.
//!
//! Owns the order: the prefix, preflights, the screening of paths, routes, and what is
//! excepted from them. Its invariant: a request that an upstream could take for one that a
//! route takes never passes as one that no route takes. A pure function of the request's
//! head.

use http::{HeaderMap, Method, Version, header};

use super::route::Route;
use super::tunnel;
use crate::api::{Problem, is_resource};
use crate::upstream::Upstream;
use cloakroom_domain::http::body_method::{self, BodyMethod};
use cloakroom_domain::http::path::{self, PathProblem};
use cloakroom_domain::http::pattern::Captures;
use cloakroom_domain::http::request_override::{self, RequestOverride};
use cloakroom_domain::http::route_table::{RouteTable, RoutedMethods};

/// The place of a request.
pub(super) enum Routing<'f> {
    /// Among the gateway's own resources: the path beneath the prefix.
    Own(String),
    /// A preflight that the gateway answers: for one of its own resources, whose path beneath the
    /// prefix this is; else for a route.
    Preflight(Option<String>),
    /// On a route.
    Routed(&'f Route, Captures),
    /// Refused, once its principal is known: an upstream could read it as a request that a
    /// route takes.
    Disguised(Problem),
    /// The upstream's, as it is.
    Straight(PassThrough<'f>),
}

/// A request that goes straight to an upstream.
#[derive(Clone, Copy)]
pub(super) struct PassThrough<'f> {
    /// The upstream of the route that leaves it alone; none where no route takes it.
    pub(super) upstream: Option<&'f Upstream>,
    /// Whether its principal has to be known: a route takes it, or some servers would take it for
    /// a request that one takes.
    pub(super) is_known: bool,
    /// Whether it names another path by a field, so that some servers would take it for a request
    /// that a route takes: such fields are left out.
    pub(super) misleads: bool,
    /// Whether its body could name a method with which a route takes it.
    pub(super) has_form: bool,
}

impl<'f> PassThrough<'f> {
    const fn to(upstream: &'f Upstream, is_known: bool) -> Self {
        Self { upstream: Some(upstream), is_known, misleads: false, has_form: false }
    }
}

/// The settings that decide a place.
pub(super) struct RoutingRules<'f> {
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
pub(super) struct RoutingHead<'r> {
    pub(super) method: &'r Method,
    pub(super) path: &'r str,
    pub(super) query: Option<&'r str>,
    pub(super) version: Version,
    pub(super) headers: &'r HeaderMap,
    /// The method that a preflight of a page with leave asks for.
    pub(super) preflight: Option<&'r Method>,
    /// Whether preflights are the upstream's business.
    pub(super) has_cors_of_upstream: bool,
}

impl<'f> RoutingRules<'f> {
    /// The place of a request.
    pub(super) fn place(&self, head: RoutingHead<'_>) -> Result<Routing<'f>, Problem> {
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
                    Routing::Preflight(Some(rest))
                } else {
                    Routing::Own(rest)
                });
            }
        }
        if let Some(asked) = head.preflight
            && self.routes.find(asked, head.path).is_some()
        {
            return Ok(Routing::Preflight(None));
        }
        if self.methods.contains(head.method) {
            path::screen(head.path)?;
            if let Some((route, captures)) = self.routes.find(head.method, head.path) {
                return Ok(self.on_route(head, route, captures));
            }
        }
        self.beside_routes(head)
    }

    fn on_route(&self, head: RoutingHead<'_>, route: &'f Route, captures: Captures) -> Routing<'f> {
        if self.is_left_preflight(head) {
            return Routing::Straight(PassThrough::to(route.upstream(), false));
        }
        let is_upgrade =
            tunnel::protocol(head.method, head.version, head.headers, self.upgrades).is_some();
        if is_upgrade || (route.is_implicit() && is_excepted(head.headers)) {
            return Routing::Straight(PassThrough::to(route.upstream(), true));
        }
        Routing::Routed(route, captures)
    }

    /// Whether it is a preflight that the upstream answers: browsers send it without a credential
    /// and understand no 202. A route that names OPTIONS takes it all the same.
    fn is_left_preflight(&self, head: RoutingHead<'_>) -> bool {
        head.has_cors_of_upstream
            && is_preflight(head.method, head.headers)
            && !self.routes.is_named(head.method, head.path)
            && self.other_methods(head).is_empty()
            && request_override::paths(head.headers).next().is_none()
    }

    /// The methods of routes that it could be read with beside its own.
    fn other_methods(&self, head: RoutingHead<'_>) -> Vec<RequestOverride<Method>> {
        let is_named = |method: &Method| self.routes.names(method);
        request_override::methods(head.method, head.query, head.headers, is_named)
    }

    /// The place of what no route takes as it stands.
    fn beside_routes(&self, head: RoutingHead<'_>) -> Result<Routing<'f>, Problem> {
        let others = self.other_methods(head);
        // Servers answer HEAD with what they would answer GET with.
        let is_head = head.method.as_str().eq_ignore_ascii_case(Method::HEAD.as_str());
        let usual = if is_head { &Method::GET } else { head.method };
        let (has_form, misleads) = (self.has_form(head), self.misleads(head));
        let mut straight = PassThrough { upstream: None, is_known: false, misleads, has_form };
        if others.is_empty() && !self.methods.contains(usual) {
            return Ok(Routing::Straight(straight));
        }
        path::screen(head.path)?;
        if let Some((route, _)) = self.routes.find(usual, head.path) {
            return Ok(Routing::Straight(PassThrough::to(route.upstream(), true)));
        }
        let is_routed =
            |other: &&RequestOverride<Method>| self.routes.find(&other.says, head.path).is_some();
        if let Some(other) = others.iter().find(is_routed) {
            return Ok(Routing::Disguised(Problem::disguised_method(other.by, &other.says)));
        }
        let methods = || others.iter().map(|other| &other.says).chain([usual]);
        let resembles = |path: &str| methods().any(|method| self.routes.resembles(method, path));
        straight.is_known = self.has_principals && resembles(head.path);
        Ok(Routing::Straight(straight))
    }

    /// Whether a field names the path of a route, for whatever method: the body may name that.
    fn misleads(&self, head: RoutingHead<'_>) -> bool {
        let is_near = |path: &str| path::screen(path).is_err() || self.routes.resembles_path(path);
        request_override::paths(head.headers).any(|path| is_near(&path))
    }

    /// Whether a method in the body could make a POST one that a route takes.
    fn has_form(&self, head: RoutingHead<'_>) -> bool {
        head.method.as_str().eq_ignore_ascii_case(Method::POST.as_str())
            && body_method::is_looked_into(head.headers)
            && self.routes.resembles_path(head.path)
    }

    /// Whether the principal of a POST has to be known because of the methods that its body
    /// names, or, once it is known, why it is refused.
    pub(super) fn judge_body(&self, path: &str, named: &BodyMethod) -> Result<bool, Problem> {
        let found = match named {
            BodyMethod::None => return Ok(false),
            BodyMethod::Unknown => return Ok(true),
            BodyMethod::These(found) => found,
        };
        let read = |name: &str| Method::from_bytes(name.to_ascii_uppercase().as_bytes()).ok();
        let mut others: Vec<RequestOverride<Method>> = Vec::new();
        for RequestOverride { by, says } in found {
            for says in request_override::members(says).filter_map(read) {
                // Each once, so that there are no more than routes have.
                if self.routes.names(&says) && others.iter().all(|other| other.says != says) {
                    others.push(RequestOverride { by: *by, says });
                }
            }
        }
        let is_routed =
            |other: &&RequestOverride<Method>| self.routes.find(&other.says, path).is_some();
        match others.iter().find(is_routed) {
            Some(other) => Err(Problem::disguised_method(other.by, &other.says)),
            None => Ok(others.iter().any(|other| self.routes.resembles(&other.says, path))),
        }
    }
}

/// Whether a request is a CORS preflight (Fetch standard), and no more than that.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    let has_no_body =
        |length: &http::HeaderValue| length.as_bytes().iter().all(|digit| *digit == b'0');
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && headers.get(header::CONTENT_LENGTH).is_none_or(has_no_body)
}

/// Requests that the default route for every POST leaves out: gRPC, whose clients know no
/// 202, and the forms of pages, whose readers would be shown one.
fn is_excepted(headers: &HeaderMap) -> bool {
    let begins = |name: &str, with: &str| {
        let value = headers.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
        value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    begins(header::CONTENT_TYPE.as_str(), "application/grpc")
        || begins("sec-fetch-mode", "navigate")
}
