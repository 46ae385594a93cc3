//! Giving messages to more receivers than fit into the commit of their event, step by step.

use std::sync::Arc;
use std::time::Duration;

use super::loops::WebhookLoop;
use super::{DeliveryTransport, WebhookState};

/// How often it is looked whether there is something to do that nobody has told of: what
/// another node began and left.
const POLL: Duration = Duration::from_secs(1);
/// How soon it is tried again after it failed.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Goes on until the tasks drain.
pub(super) async fn run<S: DeliveryTransport>(shared: Arc<WebhookState<S>>) {
    loop {
        let pause = match shared.ledger.fan_out().await {
            Ok(stepped) => {
                shared.loop_health.succeeded(WebhookLoop::FanOut, shared.clock.now());
                if stepped { Duration::ZERO } else { POLL }
            }
            Err(error) => {
                tracing::warn!(%error, "receivers could not be given a message; trying again soon");
                BACK_OFF
            }
        };
        if !pause.is_zero() {
            tokio::select! {
                () = shared.tasks.draining() => {}
                () = shared.ledger.fans(), if pause == POLL => {}
                () = shared.clock.sleep(pause) => {}
            }
        }
        if shared.tasks.is_draining() {
            return;
        }
    }
}
