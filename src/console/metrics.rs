//! Metrics that are computed at scrape time: queue depth and age, permits, breakers.

use std::collections::BTreeMap;

use crate::api::queue_status::{Backlog, LaneStatus, PermitsInUse, QueueStatusReport};
use cloakroom_domain::breaker::BreakerPhase;

/// Sets the gauges of every queue and upstream.
pub(super) fn set(standing: &QueueStatusReport) {
    set_depths(standing);
    for queue in &standing.queues {
        let target = queue.expected.target_wait.as_secs_f64();
        metrics::gauge!("cloakroom_queue_target_wait_seconds", "queue" => queue.name.clone())
            .set(target);
        set_permits("queue", &queue.name, queue.permits);
    }
    for upstream in &standing.upstreams {
        let open = !matches!(upstream.breaker, BreakerPhase::Closed { .. });
        metrics::gauge!("cloakroom_upstream_breaker_open", "upstream" => upstream.name.clone())
            .set(f64::from(u8::from(open)));
        set_permits("upstream", &upstream.name, upstream.permits);
    }
}

fn set_permits(of: &'static str, name: &str, permits: PermitsInUse) {
    let labels = [("of", of.to_owned()), ("name", name.to_owned())];
    metrics::gauge!("cloakroom_permits_in_use", &labels).set(permits.running as f64);
    metrics::gauge!("cloakroom_permits_limit", &labels).set(permits.limit as f64);
}

fn set_depths(standing: &QueueStatusReport) {
    for ((queue, upstream), backlog) in added_up(&standing.lanes) {
        let labels = [("queue", queue.to_owned()), ("upstream", upstream.to_owned())];
        metrics::gauge!("cloakroom_queue_depth", &labels).set(backlog.depth as f64);
        metrics::gauge!("cloakroom_queue_stored_bytes", &labels).set(backlog.stored as f64);
        let oldest = backlog.oldest.unwrap_or_default();
        metrics::gauge!("cloakroom_queue_oldest_seconds", &labels).set(oldest.as_secs_f64());
    }
}

fn added_up(lanes: &[LaneStatus]) -> BTreeMap<(&str, &str), Backlog> {
    let mut sums = BTreeMap::<_, Backlog>::new();
    for lane in lanes {
        let sum = sums.entry((&*lane.queue, &*lane.upstream)).or_default();
        *sum = sum.with(lane.backlog);
    }
    sums
}
