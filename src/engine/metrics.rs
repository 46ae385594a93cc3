//! The metrics of attempts.
//!
//! Owns their handles, which are made once: an attempt only increments them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram};

use cloakroom_domain::operation::Outcome;

/// The names of outcomes, in the order of [`position`].
const OUTCOMES: [&str; 17] = [
    "answered",
    "too-large",
    "broken",
    "interrupted",
    "lost",
    "canceled",
    "expired",
    "unroutable",
    "still-pending",
    "followed",
    "took-effect",
    "refuted",
    "unclear",
    "unfinished",
    "not-followed",
    "unreadable",
    "no-end",
];

const fn position(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Answered(_) => 0,
        Outcome::TooLarge(_) => 1,
        Outcome::Broken { .. } => 2,
        Outcome::Interrupted { .. } => 3,
        Outcome::Lost => 4,
        Outcome::Canceled { .. } => 5,
        Outcome::Expired => 6,
        Outcome::Unroutable => 7,
        Outcome::StillPending { .. } => 8,
        Outcome::Followed(_) => 9,
        Outcome::TookEffect { .. } => 10,
        Outcome::Refuted { .. } => 11,
        Outcome::Unclear { .. } => 12,
        Outcome::Unfinished { .. } => 13,
        Outcome::NotFollowed => 14,
        Outcome::Unreadable { .. } => 15,
        Outcome::NoEnd { .. } => 16,
    }
}

/// The name of an outcome in metrics and logs.
pub(super) const fn outcome_name(outcome: &Outcome) -> &'static str {
    OUTCOMES[position(outcome)]
}

/// The metrics of attempts.
pub(super) struct EngineMetrics {
    upstreams: HashMap<Arc<str>, UpstreamMetrics>,
    started: HashMap<Arc<str>, Counter>,
}

struct UpstreamMetrics {
    outcomes: [Counter; OUTCOMES.len()],
    duration: Histogram,
}

impl EngineMetrics {
    /// Metrics for these upstreams and queues.
    pub(super) fn of<'a>(
        upstreams: impl Iterator<Item = &'a Arc<str>>,
        queues: impl Iterator<Item = &'a Arc<str>>,
    ) -> Self {
        Self {
            upstreams: upstreams
                .map(|name| (Arc::clone(name), UpstreamMetrics::of(name)))
                .collect(),
            started: queues.map(|name| (Arc::clone(name), started(name))).collect(),
        }
    }

    /// An attempt begins.
    pub(super) fn started(&self, queue: &str) {
        match self.started.get(queue) {
            Some(counter) => counter.increment(1),
            // What was accepted before its queue was taken out of the configuration.
            None => started(queue).increment(1),
        }
    }

    /// An attempt has ended. Attempts for upstreams that are not configured send nothing
    /// and are not counted.
    pub(super) fn ended(&self, upstream: &str, outcome: &Outcome, took: Duration) {
        if let Some(meter) = self.upstreams.get(upstream) {
            meter.outcomes[position(outcome)].increment(1);
            meter.duration.record(took.as_secs_f64());
        }
    }
}

fn started(queue: &str) -> Counter {
    metrics::counter!("cloakroom_queue_started_total", "queue" => queue.to_owned())
}

impl UpstreamMetrics {
    fn of(upstream: &Arc<str>) -> Self {
        let counter = |outcome: &'static str| {
            let upstream = upstream.to_string();
            metrics::counter!("cloakroom_attempts_total", "upstream" => upstream, "outcome" => outcome)
        };
        let upstream = upstream.to_string();
        Self {
            outcomes: OUTCOMES.map(counter),
            duration: metrics::histogram!(
                "cloakroom_attempt_duration_seconds", "upstream" => upstream
            ),
        }
    }
}
