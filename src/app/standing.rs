//! How queues and upstreams stand, put together for operators from what was configured,
//! what the ledger holds and what the engine is doing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::Api;
use crate::api::standing::{
    Backlog, LaneStanding, LookAtQueues, PermitsInUse, QueueStanding, Standing, UpstreamStanding,
};
use crate::clock::Clock;
use crate::config::{Config, QueueConfig, UpstreamConfig};
use crate::domain::Timestamp;
use crate::domain::breaker::State;
use crate::domain::turn::Expected;
use crate::engine::{Engine, InUse};
use crate::ledger::{LaneDepth, Ledger, LedgerError};

/// Whom it asks.
struct Sources {
    ledger: Ledger,
    engine: Engine,
    clock: Clock,
    queues: BTreeMap<String, QueueConfig>,
    upstreams: BTreeMap<String, UpstreamConfig>,
}

/// Looks when asked.
pub(super) fn look(config: &Config, api: &Api, engine: Engine) -> LookAtQueues {
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
    async fn standing(&self) -> Result<Standing, LedgerError> {
        Ok(Standing {
            lanes: self.lanes().await?,
            queues: self.queues.iter().map(|(name, queue)| self.queue(name, queue)).collect(),
            upstreams: self.upstreams.iter().map(|(name, it)| self.upstream(name, it)).collect(),
        })
    }

    async fn lanes(&self) -> Result<Vec<LaneStanding>, LedgerError> {
        let now = self.clock.now();
        let lanes = self.ledger.lanes();
        let names: Vec<_> = lanes.iter().map(|row| row.lane.clone()).collect();
        let oldest = self.ledger.oldest_due(&names).await?;
        let row = |(row, oldest): (LaneDepth, Option<Timestamp>)| LaneStanding {
            queue: row.lane.queue.to_string(),
            upstream: row.lane.upstream.to_string(),
            backlog: Backlog {
                depth: row.depth,
                oldest: oldest.filter(|due| *due <= now).map(|due| now.since(due)),
            },
        };
        Ok(lanes.into_iter().zip(oldest).map(row).collect())
    }

    fn queue(&self, name: &str, queue: &QueueConfig) -> QueueStanding {
        QueueStanding {
            name: name.to_owned(),
            expected: Expected { priority: queue.priority, target_wait: queue.target_wait },
            permits: self.engine.queue(name).map(permits).unwrap_or_default(),
            max_in_flight: queue.max_in_flight,
            rate: queue.rate,
            max_depth: queue.max_depth,
            paused: queue.paused || self.ledger.is_paused(name),
        }
    }

    fn upstream(&self, name: &str, upstream: &UpstreamConfig) -> UpstreamStanding {
        let known = self.engine.upstream(name);
        let (in_use, breaker) =
            known.map_or((None, State::default()), |(it, state)| (Some(it), state));
        UpstreamStanding {
            name: name.to_owned(),
            permits: in_use.map(permits).unwrap_or_default(),
            max_in_flight: upstream.max_in_flight,
            rate: upstream.rate,
            breaker,
        }
    }
}

const fn permits(in_use: InUse) -> PermitsInUse {
    PermitsInUse { running: in_use.running, limit: in_use.limit }
}
