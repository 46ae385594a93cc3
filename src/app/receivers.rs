//! Checks of receivers, for the endpoints that take their URLs.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;

use crate::api::{ReceiverProbe, UrlCheckError, UrlRejection, WebhookSettings};
use crate::config::Config;
use crate::webhooks::{
    DnsLookups, SenderSettings, SigningKeys, SsrfGuard, SystemResolver, Target, Trust, UrlRefusal,
    WebhookSender, check_url,
};
use cloakroom_domain::Principal;
use cloakroom_domain::http::via;
use cloakroom_domain::webhooks::Destination;
use cloakroom_domain::webhooks::cloud_event::Permission;
use cloakroom_ledger::Ledger;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// The sender of webhooks, and the guard of its destinations.
#[derive(Clone)]
pub(super) struct Receivers {
    guard: Arc<SsrfGuard>,
    lookups: DnsLookups,
    sender: WebhookSender,
    clock: Clock,
    /// The name by which this gateway asks receivers for permission.
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
        let guard = SsrfGuard::new(config.destination_rules(), listeners, resolver);
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
            rules: config.destination_rules(),
            probe: Arc::new(self),
            keyring: config.secrets.keyring(),
            most: u32::try_from(config.webhooks.max_subscriptions).unwrap_or(u32::MAX),
        }
    }
}

#[async_trait]
impl ReceiverProbe for Receivers {
    async fn judge(&self, url: &str, whose: &Principal) -> Result<Destination, UrlCheckError> {
        check_url(&self.guard, &self.lookups, url, whose).await.map_err(|refusal| match refusal {
            UrlRefusal::Rejected(why) => {
                let (kind, whole) = (why.kind(), why.to_string());
                UrlCheckError::Unfit(UrlRejection { kind, whole })
            }
            UrlRefusal::Deferred { refusal, retry_after } => {
                UrlCheckError::Later { why: refusal.kind(), again_in: retry_after }
            }
        })
    }

    async fn ask(&self, url: &str, fields: HeaderMap) -> Result<Permission, UrlRejection> {
        let target = Target { url: url.to_owned(), fields, signers: SigningKeys::default() };
        let asked = self.sender.ask_permission(&target, &self.origin, self.clock.now()).await;
        if let Some(permission) = asked.permission {
            return Ok(permission);
        }
        let kind = asked.refusal();
        Err(UrlRejection { whole: asked.attempted.detail.unwrap_or_else(|| kind.clone()), kind })
    }
}
