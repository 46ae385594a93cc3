//! What looks at receivers, lent to those who take their URLs.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;

use crate::api::{Scout, Unfit, WebhookSettings};
use crate::clock::Clock;
use crate::config::Config;
use crate::courier::{Guard, Refused, Sender, SenderSettings, SystemResolver, Target, Trust};
use crate::domain::delivery::{Destination, Rules};
use crate::domain::http::via;
use crate::ledger::Ledger;
use crate::lifecycle::Tasks;

/// What sends, and what keeps it from where it must not go.
#[derive(Clone)]
pub(super) struct Receivers {
    guard: Arc<Guard>,
    sender: Sender,
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
        let guard = Guard::new(rules(config), listeners, Arc::new(SystemResolver));
        let guard = Arc::new(guard);
        let settings = SenderSettings {
            timeout: config.webhooks.timeout,
            mark: via::mark(&via::own_id(ledger.ticket_key())),
            trust: Trust::System,
        };
        let host = config.server.public_url.as_ref().and_then(url::Url::host_str);
        Self {
            sender: Sender::new(guard.clone(), settings, clock.clone(), tasks),
            guard,
            clock: clock.clone(),
            origin: host.unwrap_or("localhost").to_owned(),
        }
    }

    /// What makes attempts to deliver.
    pub(super) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// What the API of webhooks needs.
    pub(super) fn settings(self, config: &Config) -> WebhookSettings {
        WebhookSettings {
            rules: rules(config),
            scout: Arc::new(self),
            keyring: config.secrets.keyring(),
            most: u32::try_from(config.webhooks.max_subscriptions).unwrap_or(u32::MAX),
        }
    }
}

fn rules(config: &Config) -> Rules {
    Rules {
        allow: config.webhooks.allow.clone(),
        allow_http: config.webhooks.allow_http,
        ports: config.webhooks.ports.clone(),
        public_url: config.server.public_url.clone(),
    }
}

#[async_trait]
impl Scout for Receivers {
    async fn judge(&self, url: &str) -> Result<Destination, Unfit> {
        match self.guard.check_url(url, &self.clock).await {
            // What cannot be looked up now may be later, and is judged again then.
            Err(Refused::Unresolvable(_)) => self.guard.parse(url).map_err(Unfit::from),
            judged => {
                judged.map_err(|refused| Unfit { kind: refused.kind(), whole: refused.to_string() })
            }
        }
    }

    async fn ask(&self, url: &str, fields: HeaderMap) -> Result<(), Unfit> {
        let target = Target { url: url.to_owned(), fields, keys: Vec::new() };
        let asked = self.sender.ask_permission(&target, &self.origin, self.clock.now()).await;
        if asked.permission.is_some() {
            return Ok(());
        }
        let attempted = asked.attempted;
        let kind = match (attempted.status, attempted.error) {
            (Some(status), _) => format!("it answers {status} without WebHook-Allowed-Origin"),
            (None, Some(error)) => format!("it gives no answer ({})", error.as_str()),
            (None, None) => "it gives no answer".to_owned(),
        };
        Err(Unfit { whole: attempted.detail.unwrap_or_else(|| kind.clone()), kind })
    }
}
