//! What sends webhooks, put together from what was configured.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::courier::{
    self, Courier, Guard, Postman, Sender, SenderSettings, SystemResolver, Trust,
};
use crate::domain::delivery::Rules;
use crate::domain::delivery::traffic::Limits;
use crate::domain::http::via;
use crate::engine::Engine;
use crate::ledger::Ledger;
use crate::lifecycle::Tasks;

/// Starts a courier where this node works. `listeners` are the gateway's own addresses.
pub(super) fn start(
    config: &Config,
    listeners: &[SocketAddr],
    ledger: &Ledger,
    engine: &Engine,
    clock: &Clock,
    tasks: &Tasks,
) -> Option<Courier> {
    if !config.engine.role.works() {
        return None;
    }
    let webhooks = &config.webhooks;
    let rules = Rules {
        allow: webhooks.allow.clone(),
        allow_http: webhooks.allow_http,
        ports: webhooks.ports.clone(),
        public_url: config.server.public_url.clone(),
    };
    let guard = Arc::new(Guard::new(rules, listeners, Arc::new(SystemResolver)));
    let settings = SenderSettings {
        timeout: webhooks.timeout,
        mark: via::mark(&via::own_id(ledger.ticket_key())),
        trust: Trust::System,
    };
    let sender = Sender::new(guard, settings, clock.clone(), tasks);
    let postman = Postman::new(sender, config.secrets.keyring(), ledger.number());
    let settings = courier::Settings {
        limits: Limits {
            slots: webhooks.slots,
            first_attempts: webhooks.first_attempts,
            concurrency: webhooks.concurrency as usize,
            rate: webhooks.rate,
        },
        timeout: webhooks.timeout,
        lease: config.store.lease,
        over: config.retention.operation,
        may_begin: Arc::new({
            let engine = engine.clone();
            move || engine.may_begin()
        }),
    };
    let stay = engine.stay();
    Some(Courier::start(ledger.clone(), postman, settings, clock.clone(), tasks.clone(), stay))
}
