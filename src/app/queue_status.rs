//! The status of queues and upstreams for operators, from the configuration, the ledger and the
//! engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Api;
use crate::api::queue_status::{
    Backlog, LaneStatus, PermitsInUse, QueueStatus, QueueStatusReport, ReadQueueStatus,
    UpstreamStatus,
};
use crate::config::{Config, QueueConfig, UpstreamConfig};
use crate::engine::{Engine, LimitUsage};
use cloakroom_domain::Timestamp;
use cloakroom_domain::breaker::BreakerPhase;
use cloakroom_domain::fair_share::LimitKind;
use cloakroom_domain::urgency::QueueTarget;
use cloakroom_ledger::{LaneDepth, Ledger, LedgerError, LimitName};
use cloakroom_runtime::clock::Clock;

/// The sources of the status.
struct Sources {
    ledger: Ledger,
    engine: Engine,
    clock: Clock,
    queues: BTreeMap<String, QueueConfig>,
    upstreams: BTreeMap<String, UpstreamConfig>,
}

/// Looks when asked.
pub(super) fn look(config: &Config, api: &Api, engine: Engine) -> ReadQueueStatus {
    let sources = Arc::new(Sources {
        ledger: api.ledger.clone(),
        engine,
        clock: api.clock.clone(),
        queues: config.queues.clone(),
        upstreams: config.upstreams.clone(),
    });
    Arc::new(move || {
        let sources = Arc::clone(&sources);
        Box::pin(async move { sources.standing().await })
    })
}

impl Sources {
    async fn standing(&self) -> Result<QueueStatusReport, LedgerError> {
        let used = ClusterUsage(self.ledger.used_elsewhere().await?);
        let queues = self.queues.iter();
        let upstreams = self.upstreams.iter();
        Ok(QueueStatusReport {
            lanes: self.lanes().await?,
            queues: queues.map(|(name, queue)| self.queue(name, queue, &used)).collect(),
            upstreams: upstreams.map(|(name, it)| self.upstream(name, it, &used)).collect(),
        })
    }

    async fn lanes(&self) -> Result<Vec<LaneStatus>, LedgerError> {
        let now = self.clock.now();
        let lanes = self.ledger.lanes();
        let names: Vec<_> = lanes.iter().map(|row| row.lane.clone()).collect();
        let oldest = self.ledger.oldest_due(&names).await?;
        let row = |(row, oldest): (LaneDepth, Option<Timestamp>)| LaneStatus {
            queue: row.lane.queue.to_string(),
            upstream: row.lane.upstream.to_string(),
            backlog: Backlog {
                depth: row.depth,
                oldest: oldest.filter(|due| *due <= now).map(|due| now.since(due)),
                stored: row.stored,
            },
        };
        Ok(lanes.into_iter().zip(oldest).map(row).collect())
    }

    fn queue(&self, name: &str, queue: &QueueConfig, used: &ClusterUsage) -> QueueStatus {
        QueueStatus {
            name: name.to_owned(),
            expected: QueueTarget { priority: queue.priority, target_wait: queue.target_wait },
            permits: self.engine.queue(name).map(permits).unwrap_or_default(),
            elsewhere: used.of(LimitKind::QueueInFlight, name),
            started_per_second: self.ledger.started_per_second(name),
            max_in_flight: queue.max_in_flight,
            rate: queue.rate,
            max_depth: queue.max_depth,
            max_stored: queue.max_stored as u64,
            paused: queue.paused || self.ledger.is_paused(name),
        }
    }

    fn upstream(
        &self,
        name: &str,
        upstream: &UpstreamConfig,
        used: &ClusterUsage,
    ) -> UpstreamStatus {
        let known = self.engine.upstream(name);
        let (in_use, breaker) =
            known.map_or((None, BreakerPhase::default()), |(it, state)| (Some(it), state));
        UpstreamStatus {
            name: name.to_owned(),
            permits: in_use.map(permits).unwrap_or_default(),
            elsewhere: used.of(LimitKind::UpstreamInFlight, name),
            max_in_flight: upstream.max_in_flight,
            rate: upstream.rate,
            breaker,
        }
    }
}

/// What runs on other nodes, as they last reported.
struct ClusterUsage(Vec<(LimitName, u64)>);

impl ClusterUsage {
    fn of(&self, kind: LimitKind, name: &str) -> usize {
        let of = |(of, _): &&(LimitName, u64)| of.kind == kind && &*of.name == name;
        let used = self.0.iter().find(of).map_or(0, |(_, used)| *used);
        usize::try_from(used).unwrap_or(usize::MAX)
    }
}

const fn permits(in_use: LimitUsage) -> PermitsInUse {
    PermitsInUse { running: in_use.running, limit: in_use.limit }
}
