//! The public listener: accepts, proxies, or answers with the gateway's own API.
//!
//! Owns the order of the checks of a request; its layers stand in [`stack`]. Its invariant: nothing is stored or sent before
//! every check of the request's head has passed. It must not know how operations run, or what
//! the gateway's own resources look like.

mod accept;
mod answer;
mod body;
mod body_scan;
mod callback;
mod cors;
mod pass_through;
mod proxy;
mod route;
mod routing;
mod screen;
mod selector;
mod settings;
mod silence_timeout;
mod stack;
mod tunnel;
mod upload;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use tower::ServiceExt;

use crate::api::{Api, Problem, principal_of};
use crate::config::PrincipalRule;
use crate::listener::IncomingBody;
use crate::upstream::Upstream;
use body::Budget;
use cloakroom_domain::Principal;
use cloakroom_domain::http::forwarded::{self, Scheme};
use cloakroom_domain::http::pattern::Captures;
use cloakroom_domain::http::route_table::{RouteTable, RoutedMethods};
use cloakroom_domain::http::{expectation, hygiene, via};
use cors::{Cors, GrantedMethods};
pub use route::Overlap;
use route::Route;
use routing::{PassThrough, Routing, RoutingHead, RoutingRules};
use screen::{RequestSource, ScreenedRequest};
pub use settings::{FrontSettings, Lifecycles, UnknownRoute};

/// The answers of the public listener. Clones share everything.
#[derive(Clone)]
pub struct Front(Arc<FrontState>);

struct FrontState {
    api: Api,
    own: Router,
    routes: RouteTable<Route>,
    methods: RoutedMethods,
    fallback: Option<Upstream>,
    // Whether what is unknown under the prefix is passed on.
    prefix_pass: bool,
    cors: Arc<Cors>,
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
    callbacks: callback::CallbackReceivers,
}

/// Whether the routes of a configuration can be used, and which of them overlap.
pub fn check_routes(config: &crate::config::Config) -> Result<Vec<Overlap>, UnknownRoute> {
    route::check(config)
}

/// The target that a request reaches.
enum RequestTarget<'f> {
    /// The gateway's own resources: the path beneath the prefix.
    Own(String),
    /// The answer to a preflight: for one of the gateway's own resources, or for a route.
    Preflight(Option<String>),
    /// A route.
    Route(&'f Route, Captures),
    /// An upstream, as it is.
    Upstream(&'f Upstream, PassThrough<'f>),
}

/// How long the gateway's description of a client's request is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lifespan {
    /// As long as its own answer takes.
    Passing,
    /// In the ledger.
    Stored,
}

impl Front {
    /// The answers for these settings.
    pub fn new(settings: FrontSettings) -> Self {
        let FrontSettings { api, own, routes, fallback, cors, upgrades, .. } = settings;
        let trusted_fields = match &api.settings.principal {
            PrincipalRule::Header(name) => vec![name.clone()],
            PrincipalRule::None | PrincipalRule::Authorization => Vec::new(),
        };
        Self(Arc::new(FrontState {
            methods: routes.methods(),
            own,
            cors: Arc::new(Cors::new(cors)),
            max_body: settings.max_body,
            budget: Budget::new(settings.body_memory),
            mark: via::mark(&settings.gateway_id),
            gateway_id: settings.gateway_id,
            lifecycles: settings.lifecycles,
            api,
            routes,
            fallback,
            prefix_pass: settings.prefix_pass,
            upgrades,
            trusted_fields,
            callbacks: callback::CallbackReceivers::default(),
        }))
    }
}

impl FrontState {
    /// Answers a request. Never fails: what goes wrong is a problem.
    async fn answer(&self, screened: ScreenedRequest) -> Response {
        let ScreenedRequest { request, source } = screened;
        match self.look(&request, &source) {
            // Boxed, so that the many that are accepted do not carry the room of the others.
            Ok(RequestTarget::Preflight(own)) => Box::pin(self.preflight(request, own)).await,
            Ok(RequestTarget::Own(rest)) => Box::pin(self.ask_own(request, &rest)).await,
            Ok(RequestTarget::Route(route, captures)) => {
                let accepted = self.accept(request, route, &captures, &source).await;
                accepted.unwrap_or_else(Problem::into_response)
            }
            Ok(RequestTarget::Upstream(upstream, straight)) => {
                let passed = Box::pin(self.pass(request, (upstream, straight), &source)).await;
                self.of_upstream(passed.unwrap_or_else(Problem::into_response))
            }
            Err((true, problem)) => problem.into_response(),
            Err((false, problem)) => self.of_upstream(problem.into_response()),
        }
    }

    /// The answer to a preflight; `own` is the path of the gateway's own resource that it is for.
    async fn preflight(&self, request: Request<IncomingBody>, own: Option<String>) -> Response {
        let headers = request.headers().clone();
        let taken = match own {
            Some(rest) => {
                let asked = self.ask_own(request, &rest).await;
                GrantedMethods::ByResource(asked.headers().get(ALLOW).cloned())
            }
            None => GrantedMethods::ByRoute,
        };
        self.cors.preflight(&headers, taken)
    }

    /// Leaves it to the upstream which pages may read an answer.
    fn of_upstream(&self, mut response: Response) -> Response {
        self.cors.leave(&mut response);
        response
    }

    /// Where a request belongs, or why it is refused; and whether the refusal is about
    /// something of the gateway's own.
    fn look(
        &self,
        request: &Request<IncomingBody>,
        caller: &RequestSource,
    ) -> Result<RequestTarget<'_>, (bool, Problem)> {
        let own = |problem| (true, problem);
        let straight = match self.place(request).map_err(own)? {
            Routing::Own(rest) => return Ok(RequestTarget::Own(rest)),
            Routing::Preflight(own) => return Ok(RequestTarget::Preflight(own)),
            Routing::Routed(route, captures) => return Ok(RequestTarget::Route(route, captures)),
            Routing::Disguised(problem) => {
                self.identify(request.headers(), caller).map_err(own)?;
                return Err(own(problem));
            }
            Routing::Straight(straight) => straight,
        };
        if straight.is_known {
            self.identify(request.headers(), caller).map_err(own)?;
        }
        expectation::unrouted(request.method(), false, request.headers())
            .map_err(|refused| (false, refused.into()))?;
        let upstream = straight.upstream.or(self.fallback.as_ref());
        let upstream = upstream.ok_or_else(|| (false, nowhere()))?;
        Ok(RequestTarget::Upstream(upstream, straight))
    }

    fn routing_rules(&self) -> RoutingRules<'_> {
        RoutingRules {
            prefix: &self.api.settings.prefix,
            prefix_pass: self.prefix_pass,
            routes: &self.routes,
            methods: &self.methods,
            upgrades: &self.upgrades,
            has_principals: self.api.settings.principal != PrincipalRule::None,
        }
    }

    fn place(&self, request: &Request<IncomingBody>) -> Result<Routing<'_>, Problem> {
        let (method, headers) = (request.method(), request.headers());
        let preflight = self.cors.preflight_for(method, headers);
        self.routing_rules().place(RoutingHead {
            method,
            path: request.uri().path(),
            query: request.uri().query(),
            version: request.version(),
            headers,
            preflight: preflight.as_ref(),
            has_cors_of_upstream: self.cors.is_off(),
        })
    }

    /// The principal of a request, or 401.
    fn identify(&self, headers: &HeaderMap, caller: &RequestSource) -> Result<Principal, Problem> {
        let key = self.api.ledger.ticket_key();
        principal_of(&self.api.settings, key, headers, caller.peer.ip())
    }

    /// Asks the gateway's own resources; `rest` is the path beneath the prefix.
    async fn ask_own(&self, mut request: Request<IncomingBody>, rest: &str) -> Response {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = if rest.is_empty() { "/" } else { rest };
        let Ok(uri) = format!("{path}{query}").parse::<Uri>() else {
            return Problem::no_such_resource_in_public().into_response();
        };
        *request.uri_mut() = uri;
        let answer: Result<Response, Infallible> =
            self.own.clone().oneshot(request.map(Body::new)).await;
        answer.unwrap_or_else(|never| match never {})
    }

    /// Makes a request's fields fit to be sent on to `upstream`.
    fn dress(
        &self,
        headers: &mut HeaderMap,
        (caller, version): (&RequestSource, http::Version),
        (upstream, lifespan): (&Upstream, Lifespan),
    ) {
        hygiene::remove_hop_by_hop(headers);
        hygiene::remove_gateway_fields(headers, &self.trusted_fields);
        if !caller.sender.peer_trusted {
            for field in &self.trusted_fields {
                hygiene::remove_with_aliases(headers, field);
            }
        }
        self.announce(headers, caller, lifespan);
        self.set_host(headers, caller, (upstream, lifespan));
        via::add_via(headers, version);
        via::add_cdn_loop(headers, &self.mark);
    }

    /// Tells upstreams under which scheme and host the gateway is reached. What a client says in
    /// `Host` counts only for its own answer, and only where no public URL is set.
    fn announce(&self, headers: &mut HeaderMap, caller: &RequestSource, lifespan: Lifespan) {
        let public = &self.api.settings.public;
        let (told, own) = match lifespan {
            Lifespan::Passing => (public.told(), caller.host.as_deref()),
            Lifespan::Stored => (public.lasting_authority(), None),
        };
        let (scheme, host) =
            told.map_or((Scheme::Http, own), |(scheme, host)| (scheme, Some(host)));
        forwarded::announce(headers, &caller.sender, scheme, host);
    }

    /// Leaves `Host` only where an upstream is to have it: the client's, or the public one in
    /// its place unless a trusted proxy has passed it on.
    fn set_host(
        &self,
        headers: &mut HeaderMap,
        caller: &RequestSource,
        (upstream, lifespan): (&Upstream, Lifespan),
    ) {
        if lifespan == Lifespan::Stored && !upstream.settings().preserve_host {
            headers.remove(HOST);
        } else if let Some(host) = self.host_instead(caller)
            && let Ok(host) = HeaderValue::from_str(host)
        {
            headers.insert(HOST, host);
        }
    }

    /// The public host where it stands in place of the client's: unless a trusted proxy has passed
    /// that on.
    fn host_instead(&self, caller: &RequestSource) -> Option<&str> {
        let told = self.api.settings.public.told().filter(|_| !caller.sender.peer_trusted);
        told.map(|(_, host)| host)
    }

    /// The host that an upstream is told which is told any, in lower case.
    fn host_for(&self, caller: &RequestSource) -> Option<String> {
        let host = self.host_instead(caller).or(caller.host.as_deref());
        host.map(str::to_ascii_lowercase)
    }

    /// The base of the links in the answer to this request.
    fn base(&self, headers: &HeaderMap, caller: &RequestSource) -> Result<String, Problem> {
        let public = &self.api.settings.public;
        Ok(public.for_request(headers, &caller.sender, Scheme::Http)?)
    }
}

/// No route takes the request, and no setting names one of several upstreams for it.
fn nowhere() -> Problem {
    Problem::new(
        &crate::api::problem::kinds::NO_RESOURCE,
        "no route takes this request, and there are several upstreams: add a route for it, or \
         call the upstream that gets all the rest `default`",
    )
}
