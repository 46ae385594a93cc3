//! Stands in for the composition root until that is there.
use std::net::SocketAddr;

use crate::clock::Clock;
use crate::config::Config;

/// A running gateway.
#[derive(Debug)]
pub struct App(());

/// How it is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether pending migrations are run.
    pub migrate: bool,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
#[error("not available in this build")]
pub struct StartError;

#[expect(clippy::unused_async, reason = "as the real one")]
impl App {
    /// Starts it.
    pub async fn start(_: Config, _: Options, _: Clock) -> Result<Self, StartError> {
        Err(StartError)
    }
    /// Where clients are listened to.
    pub fn public_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }
    /// Where operators are listened to.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        None
    }
    /// What to tell at start.
    pub fn notes(&self) -> Vec<String> {
        Vec::new()
    }
    /// Completes when it cannot go on.
    pub async fn failed(&self) {}
    /// Drains.
    pub async fn stop(self) {}
}

/// The description of the HTTP API.
pub fn openapi() -> String {
    "{}".to_owned()
}
