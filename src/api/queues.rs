//! `GET /queues`, `POST /queues/{name}/pause` and `/resume`, for operators: backlog, running
//! attempts and limits of queues and upstreams.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{NAME, RequestContext};
use super::openapi::{Description, ResponseDoc, Tag, in_path};
use super::queue_status::{
    Backlog, QueueStatus, QueueStatusReport, ReadQueueStatus, UpstreamStatus,
};
use super::{Problem, response};
use axum::Extension;
use axum::extract::Path;
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::BreakerPhase;
use cloakroom_ledger::Pausing;

/// The queues and upstreams that this node knows, as they stand on all nodes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueList {
    /// The queues, by name.
    queues: Vec<QueueDocument>,
    /// The upstreams, by name.
    upstreams: Vec<UpstreamDocument>,
}

/// A queue, what may be expected of it, and how it stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueueDocument {
    name: String,
    /// Higher goes first.
    priority: i32,
    /// How long an operation may wait.
    target_wait_seconds: f64,
    /// Operations that are ready or due later.
    depth: u64,
    /// How many may be.
    max_depth: u32,
    /// Octets that are stored for operations which have not ended: targets, fields and bodies of
    /// their requests.
    stored: u64,
    /// How many may be.
    max_stored: u64,
    /// How long the oldest that is due has been waiting; null where nothing is due.
    oldest_age_seconds: Option<f64>,
    /// Whether that is longer than may be expected.
    late: bool,
    /// Attempts that run, on all nodes; those of others as they told last.
    running: usize,
    /// Attempts that began in a second, on all nodes, over the last minute.
    started_per_second: f64,
    /// How many may; null where nothing was set.
    max_in_flight: Option<u32>,
    /// How many may begin in a time, like 30/m; null where nothing was set.
    rate: Option<String>,
    /// Whether nothing of it is begun.
    paused: bool,
}

/// An upstream and how it stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpstreamDocument {
    name: String,
    /// Operations for it that are ready or due later, in all queues.
    depth: u64,
    /// How long the oldest that is due has been waiting; null where nothing is due.
    oldest_age_seconds: Option<f64>,
    /// Attempts that run, on all nodes; those of others as they told last.
    running: usize,
    /// How many may.
    max_in_flight: u32,
    /// How many may begin in a time, like 500/s; null where nothing was set.
    rate: Option<String>,
    breaker: BreakerDocument,
}

/// Whether an upstream is called at all.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BreakerDocument {
    state: BreakerState,
    /// Since when it is open, or when the latest probe began; null while it is closed.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// When the next attempt may begin; null while it is closed or a probe is on its way.
    #[schema(format = DateTime)]
    next_probe_at: Option<String>,
}

/// Closed: attempts begin. Open: none does. Half-open: one finds out.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum BreakerState {
    Closed,
    Open,
    HalfOpen,
}

pub(super) async fn show(
    Extension(look): Extension<ReadQueueStatus>,
    _visit: RequestContext,
) -> Result<Response, Problem> {
    let list = QueueList::of(&look().await?);
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &list))
}

pub(super) async fn pause(
    context: RequestContext,
    Path(queue): Path<String>,
    Extension(look): Extension<ReadQueueStatus>,
) -> Result<Response, Problem> {
    set_paused(&context, queue, look, true).await
}

pub(super) async fn resume(
    context: RequestContext,
    Path(queue): Path<String>,
    Extension(look): Extension<ReadQueueStatus>,
) -> Result<Response, Problem> {
    set_paused(&context, queue, look, false).await
}

/// Pauses a queue, or resumes it, on every node of the ledger.
async fn set_paused(
    context: &RequestContext,
    queue: String,
    look: ReadQueueStatus,
    paused: bool,
) -> Result<Response, Problem> {
    let named =
        |standing: &QueueStatusReport| standing.queues.iter().any(|known| known.name == queue);
    if !named(&look().await?) {
        return Err(Problem::no_such_queue(&queue));
    }
    let at = context.api.clock.now();
    context.api.ledger.pause(Pausing { queue: queue.clone(), paused, at }).await?;
    let standing = look().await?;
    let Some(found) = standing.queues.iter().find(|known| known.name == queue) else {
        return Err(Problem::no_such_queue(&queue));
    };
    if found.paused && !paused {
        return Err(Problem::paused_by_configuration(&queue));
    }
    let document = QueueDocument::of(found, standing.in_queue(&queue));
    Ok(response::json(StatusCode::OK, response::JSON_TYPE, &document))
}

impl QueueList {
    fn of(standing: &QueueStatusReport) -> Self {
        let queue = |queue: &QueueStatus| QueueDocument::of(queue, standing.in_queue(&queue.name));
        let upstream = |upstream: &UpstreamStatus| {
            UpstreamDocument::of(upstream, standing.for_upstream(&upstream.name))
        };
        Self {
            queues: standing.queues.iter().map(queue).collect(),
            upstreams: standing.upstreams.iter().map(upstream).collect(),
        }
    }
}

impl QueueDocument {
    fn of(queue: &QueueStatus, backlog: Backlog) -> Self {
        Self {
            name: queue.name.clone(),
            priority: queue.expected.priority,
            target_wait_seconds: queue.expected.target_wait.as_secs_f64(),
            depth: backlog.depth,
            max_depth: queue.max_depth,
            stored: backlog.stored,
            max_stored: queue.max_stored,
            oldest_age_seconds: backlog.oldest.map(|age| age.as_secs_f64()),
            late: backlog.oldest.is_some_and(|age| queue.expected.is_late(age)),
            running: queue.permits.running + queue.elsewhere,
            started_per_second: queue.started_per_second,
            max_in_flight: queue.max_in_flight,
            rate: queue.rate.map(|rate| rate.to_string()),
            paused: queue.paused,
        }
    }
}

impl UpstreamDocument {
    fn of(upstream: &UpstreamStatus, backlog: Backlog) -> Self {
        Self {
            name: upstream.name.clone(),
            depth: backlog.depth,
            oldest_age_seconds: backlog.oldest.map(|age| age.as_secs_f64()),
            running: upstream.permits.running + upstream.elsewhere,
            max_in_flight: upstream.max_in_flight,
            rate: upstream.rate.map(|rate| rate.to_string()),
            breaker: BreakerDocument::of(&upstream.breaker),
        }
    }
}

impl BreakerDocument {
    fn of(state: &BreakerPhase) -> Self {
        let (state, since, next) = match state {
            BreakerPhase::Closed { .. } => (BreakerState::Closed, None, None),
            BreakerPhase::Open { since, pause, .. } => {
                (BreakerState::Open, Some(*since), Some(*since + *pause))
            }
            BreakerPhase::HalfOpen { since, .. } => (BreakerState::HalfOpen, Some(*since), None),
        };
        let text = |at: Option<Timestamp>| at.map(Timestamp::rfc3339);
        Self { state, since: text(since), next_probe_at: text(next) }
    }
}

pub(super) fn description() -> Description {
    let summary = "How queues and upstreams stand";
    Description::new(Tag::Queues, "listQueues", summary)
        .replies(200, ResponseDoc::json::<QueueList>("Queues and upstreams, by name."))
        .refuses(&[(404, "On the public listener.")])
}

pub(super) fn pause_description() -> Description {
    let summary = "Begin nothing of a queue, on any node of the ledger";
    of_one(Description::new(Tag::Queues, "pauseQueue", summary))
}

pub(super) fn resume_description() -> Description {
    of_one(Description::new(Tag::Queues, "resumeQueue", "Go on with a queue where it was"))
        .refuses(&[(409, "This node's configuration pauses it.")])
}

fn of_one(description: Description) -> Description {
    description
        .at([in_path("queue", "The queue's name.", NAME)])
        .replies(200, ResponseDoc::json::<QueueDocument>("The queue as it stands now."))
        .refuses(&[(404, "There is no such queue, or this is the public listener.")])
}

#[cfg(test)]
mod tests {
    use super::super::queue_status::{LaneStatus, PermitsInUse};
    use super::*;
    use cloakroom_domain::urgency::QueueTarget;
    use std::time::Duration;

    fn lane(queue: &str, upstream: &str, depth: u64, oldest: Option<u64>) -> LaneStatus {
        let backlog =
            Backlog { depth, oldest: oldest.map(Duration::from_secs), stored: depth * 10 };
        LaneStatus { queue: queue.into(), upstream: upstream.into(), backlog }
    }

    fn queue(name: &str) -> QueueStatus {
        QueueStatus {
            name: name.into(),
            expected: QueueTarget { priority: 3, target_wait: Duration::from_secs(8) },
            permits: PermitsInUse { running: 2, limit: 9 },
            elsewhere: 3,
            started_per_second: 0.5,
            max_in_flight: None,
            rate: "30/m".parse().ok(),
            max_depth: 7,
            max_stored: 900,
            paused: false,
        }
    }

    #[test]
    fn lanes_are_added_up_by_queue_and_by_upstream_and_the_oldest_counts() {
        let standing = QueueStatusReport {
            lanes: vec![
                lane("a", "x", 2, Some(4)),
                lane("a", "y", 3, Some(9)),
                lane("a", "x", 1, None),
                lane("b", "x", 5, None),
            ],
            queues: vec![queue("a"), queue("b")],
            upstreams: Vec::new(),
        };
        let list = QueueList::of(&standing);
        let [a, b] = &list.queues[..] else { panic!("{list:?}") };
        assert_eq!((a.depth, a.oldest_age_seconds, a.late), (6, Some(9.0), true));
        assert_eq!((b.depth, b.oldest_age_seconds, b.late), (5, None, false));
        assert_eq!((a.rate.as_deref(), a.running, a.max_depth), (Some("30/m"), 5, 7));
        assert_eq!((a.stored, a.max_stored, b.stored), (60, 900, 50));
        assert_eq!(standing.for_upstream("x").depth, 8);
    }

    #[test]
    fn an_open_breaker_says_when_it_is_tried_again() {
        let since = Timestamp::from_micros(1_795_248_000_000_000);
        let open = BreakerPhase::Open { since, pause: Duration::from_secs(30), openings: 2 };
        let document = serde_json::to_value(BreakerDocument::of(&open)).unwrap();
        assert_eq!(document["state"], "open");
        assert_eq!(document["since"], "2026-11-21T08:00:00.000000Z");
        assert_eq!(document["nextProbeAt"], "2026-11-21T08:00:30.000000Z");
        let half = BreakerPhase::HalfOpen { since, probes: 1, openings: 2 };
        assert_eq!(serde_json::to_value(BreakerDocument::of(&half)).unwrap()["state"], "half-open");
    }
}
