//! Telemetry: log lines and metrics.
//!
//! Owns where both go. Its invariant: starting either twice in one process is harmless, so that
//! several gateways can live in one test. It must not know which code logs or counts, only the names,
//! units and meanings of metrics.

mod logs;
mod metrics;

pub use logs::start as start_logging;
pub use metrics::{Metrics, metrics};
