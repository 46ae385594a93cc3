//! The background loops of the engine, as `readyz` watches them.

use std::time::Duration;

use cloakroom_runtime::WatchedLoop;

/// A loop of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineLoop {
    Dispatcher,
    Follower,
    Expiry,
    Pruner,
    Heartbeat,
    Delays,
}

impl WatchedLoop for EngineLoop {
    const ALL: &'static [Self] = &[
        Self::Dispatcher,
        Self::Follower,
        Self::Expiry,
        Self::Pruner,
        Self::Heartbeat,
        Self::Delays,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Dispatcher => "dispatcher",
            Self::Follower => "follower",
            Self::Expiry => "expiry",
            Self::Pruner => "pruner",
            Self::Heartbeat => "beat",
            Self::Delays => "delays",
        }
    }

    fn max_age(self) -> Duration {
        match self {
            Self::Dispatcher | Self::Follower | Self::Heartbeat => Duration::from_mins(1),
            Self::Expiry | Self::Pruner | Self::Delays => Duration::from_mins(5),
        }
    }
}
