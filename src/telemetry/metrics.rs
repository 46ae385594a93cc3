//! The recorder of metrics, and the description of each metric.
//!
//! Names follow the Prometheus conventions: base units, `_total` on counters.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use cloakroom_runtime::clock::Clock;

/// How often samples are folded into their buckets where no scraper reads them.
const UPKEEP: Duration = Duration::from_secs(5);

const COMMIT_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const BATCH_WRITES: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];
const ATTEMPT_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];

const HISTOGRAMS: [(&str, &[f64]); 4] = [
    ("cloakroom_ledger_commit_seconds", COMMIT_SECONDS),
    ("cloakroom_ledger_batch_writes", BATCH_WRITES),
    ("cloakroom_attempt_duration_seconds", ATTEMPT_SECONDS),
    ("cloakroom_delivery_duration_seconds", ATTEMPT_SECONDS),
];

/// Every metric of this process. Clones share one.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

/// The metrics of this process; the first call begins to record.
pub fn metrics() -> Metrics {
    static RECORDED: OnceLock<Metrics> = OnceLock::new();
    RECORDED.get_or_init(install).clone()
}

impl Metrics {
    /// All samples, in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps what has been recorded small, for ever: histograms keep every sample until
    /// they are scraped or this has passed by.
    pub async fn upkeep(self, clock: Clock) {
        loop {
            clock.sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}

fn install() -> Metrics {
    let recorder = builder().build_recorder();
    let handle = recorder.handle();
    // Another recorder is there only where this library is part of another program, which
    // then sees our metrics in its own way.
    let _ = metrics::set_global_recorder(recorder);
    describe();
    Metrics(handle)
}

fn builder() -> PrometheusBuilder {
    let bucketed =
        HISTOGRAMS.iter().try_fold(PrometheusBuilder::new(), |builder, (name, edges)| {
            builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), edges)
        });
    // It refuses empty lists only, and none of ours is.
    bucketed.unwrap_or_default()
}

fn describe() {
    describe_counter!("cloakroom_operations_accepted_total", "Operations accepted, by route.");
    describe_counter!(
        "cloakroom_operations_finished_total",
        "Operations that reached a final state, by outcome and, for failures, error code."
    );
    describe_counter!(
        "cloakroom_unreadable_places_total",
        "Requests whose value at a place that a route names could not be read, by route and place."
    );
    describe_gauge!("cloakroom_operations_running", "Operations whose attempt is on its way.");
    describe_gauge!(
        "cloakroom_operations_waiting",
        "Operations that wait for their upstream or for a serial key and hold no slot."
    );
    describe_gauge!(
        "cloakroom_nodes",
        "Nodes that share the ledger, as this one sees them, by state."
    );
    describe_gauge!(
        "cloakroom_beat_age_seconds",
        Unit::Seconds,
        "How long ago this node sent its last confirmed beat."
    );
    describe_counter!(
        "cloakroom_rescues_total",
        "Operations taken over from nodes that died, by what became of them."
    );
    describe_gauge!(
        "cloakroom_queue_depth",
        "Operations that are ready, due later or behind a serial key, of all nodes, as far as this one knows."
    );
    describe_gauge!(
        "cloakroom_queue_stored_bytes",
        Unit::Bytes,
        "Octets that are stored for operations which have not ended, of all nodes, as far as this one knows."
    );
    describe_gauge!(
        "cloakroom_queue_oldest_seconds",
        Unit::Seconds,
        "How long the oldest due operation has been waiting; 0 where nothing is due."
    );
    describe_gauge!(
        "cloakroom_queue_target_wait_seconds",
        Unit::Seconds,
        "How long an operation may wait in the queue before it counts as late."
    );
    describe_counter!("cloakroom_queue_started_total", "Attempts that began, by queue.");
    describe_gauge!(
        "cloakroom_upstream_breaker_open",
        "1 while the upstream does not answer and is left alone, else 0."
    );
    describe_gauge!(
        "cloakroom_permits_in_use",
        "Attempts that run on this node, by queue and by upstream."
    );
    describe_gauge!(
        "cloakroom_permits_limit",
        "How many attempts may run on this node at present, by queue and by upstream."
    );
    describe_counter!(
        "cloakroom_permits_asked_total",
        "How often this node asked for its part of the limits that nodes share."
    );
    describe_counter!("cloakroom_attempts_total", "Attempts, by upstream and how they ended.");
    describe_histogram!(
        "cloakroom_attempt_duration_seconds",
        Unit::Seconds,
        "How long attempts took."
    );
    describe_histogram!(
        "cloakroom_ledger_commit_seconds",
        Unit::Seconds,
        "How long it took to make a batch of writes durable."
    );
    describe_histogram!("cloakroom_ledger_batch_writes", "Writes that shared one commit.");
    describe_counter!(
        "cloakroom_ledger_refused_writes_total",
        "Writes that the ledger refused, because its disk is full or does not answer."
    );
    describe_counter!(
        "cloakroom_unreadable_operations_total",
        "Operations that could not be read, by what became of them: failed, outcome-unknown, handed-back or left."
    );
    describe_counter!(
        "cloakroom_unlisted_rows_total",
        "Rows that a list passed over because they cannot be read, by list."
    );
    describe_webhooks();
}

fn describe_webhooks() {
    describe_counter!(
        "cloakroom_unreadable_deliveries_total",
        "Webhook deliveries that could not be read, by what became of them: dropped or left."
    );
    describe_counter!(
        "cloakroom_deliveries_total",
        "Webhook deliveries that are over, by outcome: delivered, exhausted or gone."
    );
    describe_counter!(
        "cloakroom_delivery_attempts_total",
        "Attempts to deliver a webhook, by outcome: delivered, or what went wrong."
    );
    describe_histogram!(
        "cloakroom_delivery_duration_seconds",
        Unit::Seconds,
        "How long attempts to deliver a webhook took."
    );
    describe_gauge!(
        "cloakroom_deliveries_sending",
        "Attempts to deliver a webhook that are under way on this node: in slots, and aside, which \
         are first contacts that were not answered within a second."
    );
    describe_gauge!(
        "cloakroom_delivery_slots",
        "How many attempts to deliver may take up a slot on this node (webhooks.slots); twice as \
         many more may wait aside."
    );
    describe_gauge!(
        "cloakroom_deliveries_oldest_seconds",
        Unit::Seconds,
        "For how long the oldest delivery has been due that is this node's to send and is not on \
         its way: to receivers that are well, and to those that failed last; 0 where none is due."
    );
    describe_gauge!(
        "cloakroom_deliveries_waiting",
        "Deliveries of all nodes that are due, due later, and held. Counted every 15 s and no \
         further than 10000, due and later together: 10000 means that or more."
    );
    describe_gauge!(
        "cloakroom_receivers_holding",
        "Subscriptions that are disabled or not verified: what comes for them is held."
    );
    describe_counter!(
        "cloakroom_lookups_put_off_total",
        "Requests that named a URL for webhooks and got 503, because its host's name was not \
         looked up in time (slow), or too many were being looked up (busy)."
    );
    describe_gauge!(
        "cloakroom_receivers_parked",
        "Receivers of webhooks that this node leaves alone because they do not answer."
    );
    describe_gauge!(
        "cloakroom_delivery_lanes_due",
        "Receivers for whom something is due, first attempts and others counted apart."
    );
    describe_gauge!(
        "cloakroom_deliveries_in_hand",
        "Deliveries that this node was handed and has not settled."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_rendered_with_its_meaning_and_buckets() {
        let recorded = metrics();
        metrics::counter!("cloakroom_operations_accepted_total", "route" => "unit").increment(2);
        metrics::histogram!("cloakroom_ledger_batch_writes").record(3.0);
        let text = recorded.render();
        assert!(text.contains("# TYPE cloakroom_operations_accepted_total counter"), "{text}");
        assert!(text.contains("cloakroom_operations_accepted_total{route=\"unit\"} 2"), "{text}");
        assert!(text.contains("cloakroom_ledger_batch_writes_bucket{le=\"4\"}"), "{text}");
    }

    #[test]
    fn asking_again_gives_the_same_metrics() {
        let first = metrics();
        let again = metrics();
        metrics::gauge!("cloakroom_operations_running").set(1.0);
        assert!(first.render().contains("cloakroom_operations_running"));
        assert!(again.render().contains("cloakroom_operations_running"));
    }
}
