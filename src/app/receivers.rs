//! Checks of receivers, for the endpoints that take their URLs.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;

use crate::api::{ReceiverProbe, UrlCheckError, UrlRejection, WebhookSettings};
use crate::config::Config;
use crate::webhooks::{
    DnsLookups, GuardRefusal, SenderSettings, SigningKeys, SsrfGuard, SystemResolver, Target,
    Trust, WebhookSender,
};
use cloakroom_domain::Principal;
use cloakroom_domain::http::via;
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_domain::webhooks::{Destination, DestinationRules};
use cloakroom_ledger::Ledger;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// After how many seconds a deferred client may retry: when one of the lookups ends; and when that
/// of the name has ended and its result is cached.
const BUSY: u64 = 1;
const SLOW: u64 = 5;

/// What sends, and what keeps it from where it must not go.
#[derive(Clone)]
pub(super) struct Receivers {
    guard: Arc<SsrfGuard>,
    lookups: DnsLookups,
    sender: WebhookSender,
    clock: Clock,
    /// By which name this gateway asks.
    origin: String,
}

impl Receivers {
    /// `listeners` are the addresses that this gateway itself listens on.
    pub(super) fn new(
        config: &Config,
        listeners: &[SocketAddr],
        ledger: &Ledger,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Self {
        let resolver = Arc::new(SystemResolver);
        let lookups = DnsLookups::new(resolver.clone(), clock.clone(), tasks.clone());
        let guard = SsrfGuard::new(rules(config), listeners, resolver);
        let guard = Arc::new(guard);
        let settings = SenderSettings {
            timeout: config.webhooks.timeout,
            mark: via::mark(&via::own_id(ledger.ticket_key())),
            trust: Trust::System,
        };
        let host = config.server.public_url.as_ref().and_then(url::Url::host_str);
        Self {
            sender: WebhookSender::new(guard.clone(), settings, clock.clone(), tasks),
            guard,
            lookups,
            clock: clock.clone(),
            origin: host.unwrap_or("localhost").to_owned(),
        }
    }

    /// What makes attempts to deliver.
    pub(super) fn sender(&self) -> WebhookSender {
        self.sender.clone()
    }

    /// What the API of webhooks needs.
    pub(super) fn settings(self, config: &Config) -> WebhookSettings {
        WebhookSettings {
            rules: rules(config),
            probe: Arc::new(self),
            keyring: config.secrets.keyring(),
            most: u32::try_from(config.webhooks.max_subscriptions).unwrap_or(u32::MAX),
        }
    }
}

fn rules(config: &Config) -> DestinationRules {
    DestinationRules {
        allow: config.webhooks.allow.clone(),
        allow_http: config.webhooks.allow_http,
        ports: config.webhooks.ports.clone(),
        public_url: config.server.public_url.clone(),
    }
}

#[async_trait]
impl ReceiverProbe for Receivers {
    async fn judge(&self, url: &str, whose: &Principal) -> Result<Destination, UrlCheckError> {
        let refused = match self.guard.check_url(url, whose, &self.lookups).await {
            Ok(destination) => return Ok(destination),
            Err(refused) => refused,
        };
        let again_in = match refused {
            // What cannot be looked up now may be later, and is judged again then.
            GuardRefusal::Unresolvable(_) => {
                let judged = self.guard.parse(url).map_err(UrlRejection::from);
                return judged.map_err(UrlCheckError::Unfit);
            }
            GuardRefusal::Busy => BUSY,
            GuardRefusal::Slow => SLOW,
            _ => {
                let (kind, whole) = (refused.kind(), refused.to_string());
                return Err(UrlCheckError::Unfit(UrlRejection { kind, whole }));
            }
        };
        let why = match refused {
            GuardRefusal::Busy => "busy",
            _ => "slow",
        };
        metrics::counter!("cloakroom_lookups_put_off_total", "why" => why).increment(1);
        Err(UrlCheckError::Later { why: refused.kind(), again_in })
    }

    async fn ask(&self, url: &str, fields: HeaderMap) -> Result<Permission, UrlRejection> {
        let target = Target { url: url.to_owned(), fields, signers: SigningKeys::default() };
        let asked = self.sender.ask_permission(&target, &self.origin, self.clock.now()).await;
        if let Some(permission) = asked.permission {
            return Ok(permission);
        }
        let attempted = asked.attempted;
        let kind = match (attempted.status, attempted.error) {
            (Some(status), _) => format!("it answers {status} without WebHook-Allowed-Origin"),
            (None, Some(error)) => format!("it gives no answer ({})", error.as_str()),
            (None, None) => "it gives no answer".to_owned(),
        };
        Err(UrlRejection { whole: attempted.detail.unwrap_or_else(|| kind.clone()), kind })
    }
}
