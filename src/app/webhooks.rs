//! Webhooks, started from the configuration.

use std::sync::Arc;

use crate::config::Config;
use crate::engine::Engine;
use crate::webhooks::{self, HttpTransport, WebhookSender, Webhooks};
use cloakroom_domain::webhooks::scheduler::SlotLimits;
use cloakroom_ledger::Ledger;
use cloakroom_runtime::clock::Clock;
use cloakroom_runtime::lifecycle::Tasks;

/// Starts webhooks where this node works.
pub(super) fn start(
    config: &Config,
    sender: WebhookSender,
    ledger: &Ledger,
    engine: &Engine,
    clock: &Clock,
    tasks: &Tasks,
) -> Option<Webhooks> {
    if !config.engine.role.works() {
        return None;
    }
    let webhooks = &config.webhooks;
    let transport = HttpTransport::new(sender, config.secrets.keyring(), ledger.number());
    let settings = webhooks::Settings {
        limits: SlotLimits {
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
    let leave_guard = engine.delay_leave();
    Some(Webhooks::start(
        ledger.clone(),
        transport,
        settings,
        clock.clone(),
        tasks.clone(),
        leave_guard,
    ))
}
