//! Gauges of pending deliveries, for operators.
//!
//! Its invariant: the cost does not grow with the number of deliveries. A gauge is known in memory
//! or counts no further than [`COUNTED`].

use std::time::Duration;

use super::{DeliveryTransport, WebhookState, ownership};
use cloakroom_domain::Timestamp;
use cloakroom_ledger::{DeliveryCounts, LedgerError};

/// So many rows are counted; the gauges' descriptions say so.
pub(super) const COUNTED: usize = 10_000;

/// Sets what is known in memory.
pub(super) fn set<S: DeliveryTransport>(shared: &WebhookState<S>, now: Timestamp) {
    let (parked, held, sending, aside) = {
        let traffic = shared.traffic();
        (traffic.parked(), traffic.held(), traffic.sending(), traffic.aside())
    };
    metrics::gauge!("cloakroom_receivers_parked").set(parked as f64);
    metrics::gauge!("cloakroom_deliveries_in_hand").set(held as f64);
    metrics::gauge!("cloakroom_deliveries_sending", "place" => "slot").set(sending as f64);
    metrics::gauge!("cloakroom_deliveries_sending", "place" => "aside").set(aside as f64);
    metrics::gauge!("cloakroom_delivery_slots").set(shared.settings.limits.slots as f64);
    let holding = shared.ledger.owners().holding();
    metrics::gauge!("cloakroom_receivers_holding").set(holding as f64);
    let oldest = oldest(shared, now);
    for (receivers, age) in [("well", oldest.well), ("failing", oldest.failing)] {
        let age = age.unwrap_or_default().as_secs_f64();
        metrics::gauge!("cloakroom_deliveries_oldest_seconds", "receivers" => receivers).set(age);
    }
}

/// For how long the oldest deliveries have been due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OldestDue {
    /// To receivers that take what they get, or of which nothing is known.
    well: Option<Duration>,
    /// To those that failed last or are left alone.
    failing: Option<Duration>,
}

fn oldest<S: DeliveryTransport>(shared: &WebhookState<S>, now: Timestamp) -> OldestDue {
    let mut lanes = shared.ledger.due_deliveries(now);
    lanes.retain(|lane| ownership::is_own(shared, lane.receiver));
    let mut oldest = OldestDue::default();
    for lane in lanes {
        let age = match shared.traffic().takes_things(lane.receiver) {
            true => &mut oldest.well,
            false => &mut oldest.failing,
        };
        if age.is_none() {
            *age = shared.ledger.delivery_due_since(lane).map(|since| now.since(since));
        }
        if oldest.well.is_some() && oldest.failing.is_some() {
            break;
        }
    }
    oldest
}

/// Counts what waits in the ledger.
pub(super) async fn count<S: DeliveryTransport>(
    shared: &WebhookState<S>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let DeliveryCounts { due, later, held } = shared.ledger.count_deliveries(COUNTED, now).await?;
    for (state, count) in [("due", due), ("later", later), ("held", held)] {
        metrics::gauge!("cloakroom_deliveries_waiting", "state" => state).set(count as f64);
    }
    Ok(())
}
