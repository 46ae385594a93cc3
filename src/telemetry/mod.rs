//! What the gateway says about itself while it runs: log lines and metrics.
//!
//! Owns where both go. Its invariant: starting either twice in one process is harmless, so
//! that several gateways can live in one test. It must not know what is logged or counted
//! by whom, only the metrics' names, units and meanings.

mod logs;
mod metrics;

pub use logs::start as start_logging;
pub use metrics::{Metrics, metrics};
