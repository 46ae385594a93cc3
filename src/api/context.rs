//! The API context: ledger, clock, shutdown signal and settings that every resource needs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::{RetryEstimates, WebhookSettings};
use crate::config::PrincipalRule;
use cloakroom_domain::http::public_url::PublicOrigin;
use cloakroom_ledger::Ledger;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Api {
    /// Where operations are.
    pub ledger: Ledger,
    /// The clock.
    pub clock: Clock,
    /// Tells who waits here that the gateway stops.
    pub tasks: Tasks,
    /// The settings.
    pub settings: Arc<ApiSettings>,
    /// The settings and functions of webhooks.
    pub webhooks: Arc<WebhookSettings>,
}

/// The settings that show in the gateway's own resources.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Where the resources live: begins with `/`, does not end with it.
    pub prefix: String,
    /// The base of links.
    pub public: PublicOrigin,
    /// Peers whose forwarding fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The rule that tells callers apart.
    pub principal: PrincipalRule,
    /// Whether the public listener lists everybody's operations.
    pub shared: bool,
    /// By route: whether the monitor leads to a created location on another origin.
    pub foreign_location: HashMap<String, bool>,
    /// Routes whose 202 names the monitor by a path.
    pub relative_location: HashSet<String>,
    /// How long routes have been taking.
    pub pace: RetryEstimates,
}
