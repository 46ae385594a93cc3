//! The settings of the front.

use axum::Router;

use super::route::{self, Route};
use crate::api::{Api, public_router};
use crate::config::{Config, CorsOrigins};
use crate::upstream::{Upstream, Upstreams};
use cloakroom_domain::http::route_table::RouteTable;
use cloakroom_domain::http::via;
use cloakroom_runtime::lifecycle::Tasks;

/// The settings of the front.
pub struct FrontSettings {
    pub(super) api: Api,
    /// The gateway's own resources, with paths as they are beneath the prefix.
    pub(super) own: Router,
    pub(super) routes: RouteTable<Route>,
    /// Where what no route takes goes.
    pub(super) fallback: Option<Upstream>,
    /// Whether what is unknown under the prefix is passed on.
    pub(super) prefix_pass: bool,
    pub(super) cors: CorsOrigins,
    /// Protocols, in lower case, that may be upgraded to.
    pub(super) upgrades: Vec<String>,
    /// The largest body that is accepted, in octets.
    pub(super) max_body: usize,
    /// How many octets all bodies being received may take together.
    pub(super) body_memory: usize,
    /// Tells this gateway from others in `CDN-Loop`.
    pub(super) gateway_id: String,
    pub(super) lifecycles: Lifecycles,
}

/// The tasks whose end the front has to know.
#[derive(Clone, Debug)]
pub struct Lifecycles {
    /// Its own.
    pub own: Tasks,
    /// That of what carries out: once it drains, nothing new is begun.
    pub engine: Tasks,
}

/// A route refers to something that there is not.
#[derive(Debug, thiserror::Error)]
#[error("the route {route} cannot be used: {why}")]
pub struct UnknownRoute {
    /// The route's name.
    pub route: String,
    /// The reason why it cannot be used.
    pub why: String,
}

impl FrontSettings {
    /// The settings of a configuration.
    pub fn from_config(
        config: &Config,
        api: Api,
        upstreams: &Upstreams,
        lifecycles: Lifecycles,
    ) -> Result<Self, UnknownRoute> {
        let fallback = config.fallback_upstream.as_deref().and_then(|name| upstreams.get(name));
        Ok(Self {
            own: public_router(api.clone()),
            routes: route::table(config, upstreams)?,
            fallback: fallback.cloned(),
            prefix_pass: config.server.prefix_pass,
            cors: config.cors.origins.clone(),
            upgrades: config.server.upgrades.clone(),
            max_body: config.server.max_body,
            body_memory: config.server.body_memory,
            gateway_id: via::own_id(api.ledger.ticket_key()),
            api,
            lifecycles,
        })
    }
}
