//! What is measured only when somebody looks: how much waits, and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use super::QueueDepth;

/// Sets the gauges of every queue and upstream that is in `rows`.
pub(super) fn set_depths(rows: &[QueueDepth]) {
    for ((queue, upstream), (depth, oldest)) in added_up(rows) {
        let labels = [("queue", queue.to_owned()), ("upstream", upstream.to_owned())];
        metrics::gauge!("cloakroom_queue_depth", &labels).set(depth as f64);
        metrics::gauge!("cloakroom_queue_oldest_seconds", &labels).set(oldest.as_secs_f64());
    }
}

fn added_up(rows: &[QueueDepth]) -> BTreeMap<(&str, &str), (u64, Duration)> {
    let mut sums = BTreeMap::<_, (u64, Duration)>::new();
    for row in rows {
        let (depth, oldest) = sums.entry((&*row.queue, &*row.upstream)).or_default();
        *depth += row.depth;
        *oldest = (*oldest).max(row.oldest.unwrap_or_default());
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(queue: &str, depth: u64, oldest: Option<u64>) -> QueueDepth {
        let oldest = oldest.map(Duration::from_secs);
        QueueDepth { queue: queue.into(), upstream: "orders".into(), depth, oldest }
    }

    #[test]
    fn lanes_of_one_queue_are_added_up_and_the_oldest_counts() {
        let rows =
            [row("a", 2, None), row("b", 7, Some(1)), row("a", 3, Some(9)), row("a", 1, Some(4))];
        let sums = added_up(&rows);
        assert_eq!(sums[&("a", "orders")], (6, Duration::from_secs(9)));
        assert_eq!(sums[&("b", "orders")], (7, Duration::from_secs(1)));
    }
}
