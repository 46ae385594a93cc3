//! The fan-out loop: hands messages to more receivers than fit into the commit of their event.

use std::sync::Arc;
use std::time::Duration;

use super::loops::WebhookLoop;
use super::{DeliveryTransport, WebhookState};

/// How often the loop looks for fan-outs that another node began and left unfinished.
const POLL: Duration = Duration::from_secs(1);
/// How long the loop waits after an error.
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
                tracing::warn!(%error, "a fan-out failed; trying again in a second");
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
