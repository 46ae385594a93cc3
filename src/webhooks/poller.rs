//! The poller: looks for deliveries that other nodes have made due in a shared ledger.
//!
//! Owns the interval: short after a find, then longer and longer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{DeliveryTransport, WebhookState};

const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// Looks until the tasks drain.
pub(super) async fn run<S: DeliveryTransport>(shared: Arc<WebhookState<S>>) {
    let mut pause = SHORTEST;
    while shared.pause(pause).await {
        pause = match shared.ledger.look_for_deliveries().await {
            Ok(()) => next(pause, shared.busy.swap(false, Ordering::Relaxed)),
            Err(error) => {
                tracing::debug!(%error, "could not poll for due deliveries");
                LONGEST
            }
        };
    }
}

fn next(pause: Duration, busy: bool) -> Duration {
    if busy { SHORTEST } else { (pause * 2).min(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_ever_later_until_something_is_there() {
        let pauses: Vec<_> = std::iter::successors(Some(SHORTEST), |p| Some(next(*p, false)))
            .take(8)
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(next(LONGEST, true), SHORTEST);
    }
}
