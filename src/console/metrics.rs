//! What is measured only when somebody looks: how much waits and for how long, what runs
//! of what may, and which upstreams are left alone.

use crate::api::standing::{PermitsInUse, Standing};
use crate::domain::breaker::State;

/// Sets the gauges of every queue and upstream.
pub(super) fn set(standing: &Standing) {
    set_depths(standing);
    for queue in &standing.queues {
        let target = queue.expected.target_wait.as_secs_f64();
        metrics::gauge!("cloakroom_queue_target_wait_seconds", "queue" => queue.name.clone())
            .set(target);
        set_permits("queue", &queue.name, queue.permits);
    }
    for upstream in &standing.upstreams {
        let open = !matches!(upstream.breaker, State::Closed { .. });
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

fn set_depths(standing: &Standing) {
    for lane in &standing.lanes {
        let same = |other: &&crate::api::standing::LaneStanding| {
            (&other.queue, &other.upstream) == (&lane.queue, &lane.upstream)
        };
        let all = standing.lanes.iter().filter(same);
        let sum = all.map(|lane| lane.backlog).reduce(|one, other| one.with(other));
        let sum = sum.unwrap_or_default();
        let labels = [("queue", lane.queue.clone()), ("upstream", lane.upstream.clone())];
        metrics::gauge!("cloakroom_queue_depth", &labels).set(sum.depth as f64);
        let oldest = sum.oldest.unwrap_or_default();
        metrics::gauge!("cloakroom_queue_oldest_seconds", &labels).set(oldest.as_secs_f64());
    }
}
