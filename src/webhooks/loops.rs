//! The background loops of webhooks, as `readyz` watches them.

use std::time::Duration;

use cloakroom_runtime::WatchedLoop;

/// A loop of webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WebhookLoop {
    Dispatcher,
    Settler,
    FanOut,
    Maintenance,
}

impl WatchedLoop for WebhookLoop {
    const ALL: &'static [Self] =
        &[Self::Dispatcher, Self::Settler, Self::FanOut, Self::Maintenance];

    fn name(self) -> &'static str {
        match self {
            Self::Dispatcher => "webhook dispatcher",
            Self::Settler => "webhook settler",
            Self::FanOut => "webhook fan-out",
            Self::Maintenance => "webhook maintenance",
        }
    }

    fn max_age(self) -> Duration {
        Duration::from_mins(1)
    }
}
