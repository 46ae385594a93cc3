//! The public listener's answers: what is accepted, what is passed on, what is the
//! gateway's own.
//!
//! Owns the order in which a request is looked at. Its invariant: nothing is stored or
//! sent before everything that can be checked from the head alone has passed. It must
//! not know how operations are carried out, or how the gateway's own resources look.

mod accept;
mod answer;
mod body;
mod callback;
mod cors;
mod place;
mod proxy;
mod route;
mod selector;
mod settings;
mod tunnel;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::api::{Api, Peer, Problem};
use crate::config::PrincipalRule;
use crate::domain::http::forwarded::{self, Scheme, Sender};
use crate::domain::http::route_table::{RouteTable, RoutedMethods};
use crate::domain::http::{expectation, hygiene, public_url, via};
use crate::listener::Received;
use crate::upstream::Upstream;
use body::Budget;
use cors::Cors;
use place::{Place, Placing};
use route::Route;
pub use settings::{FrontSettings, Lifecycles, UnknownRoute};

/// The answers of the public listener. Clones share everything.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    api: Api,
    own: TowerToHyperService<Router>,
    routes: RouteTable<Route>,
    methods: RoutedMethods,
    fallback: Option<Upstream>,
    cors: Cors,
    upgrades: Vec<String>,
    max_body: usize,
    budget: Budget,
    gateway_id: String,
    // What it says in `CDN-Loop`.
    mark: HeaderValue,
    // The field that names the principal, which upstreams rely on.
    trusted_fields: Vec<HeaderName>,
    lifecycles: Lifecycles,
    // Whom callbacks go to.
    callbacks: callback::Known,
}

/// What is known of a request before anything is decided.
struct Caller {
    peer: SocketAddr,
    sender: Sender,
    host: Option<String>,
}

impl Front {
    /// The answers for these settings.
    pub fn new(settings: FrontSettings) -> Self {
        let FrontSettings { api, own, routes, fallback, cors, upgrades, .. } = settings;
        let trusted_fields = match &api.settings.principal {
            PrincipalRule::Header(name) => vec![name.clone()],
            PrincipalRule::None | PrincipalRule::Authorization => Vec::new(),
        };
        Self(Arc::new(Inner {
            methods: routes.methods(),
            own: TowerToHyperService::new(own),
            cors: Cors::new(cors),
            max_body: settings.max_body,
            budget: Budget::new(settings.body_memory),
            mark: via::mark(&settings.gateway_id),
            gateway_id: settings.gateway_id,
            lifecycles: settings.lifecycles,
            api,
            routes,
            fallback,
            upgrades,
            trusted_fields,
            callbacks: callback::Known::default(),
        }))
    }

    /// Answers a request. Never fails: what goes wrong is a problem.
    pub async fn handle(&self, request: Request<Received>) -> Response {
        let front = &*self.0;
        let origin = front.cors.origin(request.headers());
        let (place, mut response) = match front.look(&request) {
            Ok((Place::Preflight, _)) => return front.cors.preflight(request.headers()),
            // Boxed, so that the many that are accepted do not carry the room of the others.
            Ok((Place::Own(rest), _)) => (true, Box::pin(front.ask_own(request, &rest)).await),
            Ok((Place::Routed(route, captures), caller)) => {
                let accepted = front.accept(request, route, &captures, &caller).await;
                (true, accepted.unwrap_or_else(Problem::into_response))
            }
            Ok((Place::Proxied(upstream), caller)) => {
                let passed = Box::pin(front.proxy(request, upstream, &caller)).await;
                (false, passed.unwrap_or_else(Problem::into_response))
            }
            Err((own, problem)) => (own, problem.into_response()),
        };
        if place {
            front.cors.expose(response.headers_mut(), origin);
        }
        response
    }
}

impl Inner {
    /// Where a request belongs, or why it is refused; and whether the refusal is about
    /// something of the gateway's own.
    fn look(&self, request: &Request<Received>) -> Result<(Place<'_>, Caller), (bool, Problem)> {
        let headers = request.headers();
        let caller = self.greet(request).map_err(|problem| (true, problem))?;
        let placing = Placing {
            prefix: &self.api.settings.prefix,
            routes: &self.routes,
            methods: &self.methods,
            upgrades: &self.upgrades,
        };
        let own_preflight = || self.cors.is_preflight(request.method(), headers);
        let place = placing.place(request.method(), request.uri().path(), headers, own_preflight);
        let upstream = match place.map_err(|problem| (true, problem))? {
            Some(Place::Proxied(upstream)) => Some(upstream),
            Some(place) => return Ok((place, caller)),
            None => self.fallback.as_ref(),
        };
        expectation::unrouted(request.method(), false, headers)
            .map_err(|refused| (false, refused.into()))?;
        let upstream = upstream.ok_or_else(|| (false, nowhere()))?;
        Ok((Place::Proxied(upstream), caller))
    }

    /// Refuses what no method and no path would make good.
    fn greet(&self, request: &Request<Received>) -> Result<Caller, Problem> {
        let (headers, target) = (request.headers(), request.uri().path());
        if request.method() == Method::CONNECT {
            return Err(Problem::upgrade_not_supported());
        }
        // RFC 9112 section 3.2.4: the asterisk is for OPTIONS alone.
        let is_whole = target == "*" && request.method() == Method::OPTIONS;
        if !(target.starts_with('/') || is_whole) {
            return Err(Problem::malformed_path("the request target is not a path: begin with /"));
        }
        hygiene::screen(headers, &self.trusted_fields)?;
        if headers.contains_key("cdn-loop") && via::is_loop(headers, &self.gateway_id) {
            return Err(Problem::came_back());
        }
        let host = public_url::host(headers)?;
        if host.is_none() && request.version() != http::Version::HTTP_10 {
            return Err(public_url::HostProblem::Missing.into());
        }
        let Peer(peer) = *request.extensions().get::<Peer>().ok_or_else(Problem::internal)?;
        let sender = Sender::of(peer.ip(), &self.api.settings.trusted_proxies, headers);
        Ok(Caller { peer, sender, host })
    }

    /// Asks the gateway's own resources; `rest` is the path beneath the prefix.
    async fn ask_own(&self, mut request: Request<Received>, rest: &str) -> Response {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = if rest.is_empty() { "/" } else { rest };
        let Ok(uri) = format!("{path}{query}").parse::<Uri>() else {
            return Problem::no_such_resource().into_response();
        };
        *request.uri_mut() = uri;
        let answer: Result<Response, Infallible> = self.own.call(request.map(Body::new)).await;
        answer.unwrap_or_else(|never| match never {})
    }

    /// Makes a request's fields fit to be sent on.
    fn dress(&self, headers: &mut HeaderMap, caller: &Caller, version: http::Version) {
        hygiene::remove_hop_by_hop(headers);
        hygiene::remove_gateway_fields(headers, &self.trusted_fields);
        if !caller.sender.peer_trusted {
            for field in &self.trusted_fields {
                hygiene::remove_with_aliases(headers, field);
            }
        }
        forwarded::announce(headers, &caller.sender, Scheme::Http, caller.host.as_deref());
        via::add_via(headers, version);
        via::add_cdn_loop(headers, &self.mark);
    }

    /// What links in the answer to this request are built on.
    fn base(&self, headers: &HeaderMap, caller: &Caller) -> Result<String, Problem> {
        let public = &self.api.settings.public;
        Ok(public.for_request(headers, &caller.sender, Scheme::Http)?)
    }
}

/// Nothing is routed here, and nobody said which of several upstreams it is for.
fn nowhere() -> Problem {
    Problem::new(
        &crate::api::problem::kinds::NO_RESOURCE,
        "no route takes this request, and there are several upstreams: add a route for it, or \
         call the upstream that gets all the rest `default`",
    )
}
