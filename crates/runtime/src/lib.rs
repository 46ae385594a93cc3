//! The runtime: time, tasks, log throttling, loop health and repeated writes.
//!
//! Owns the only reader of time and the only place that starts tasks, so that tests can hold both
//! still. It must not know of HTTP, SQL or configuration.

pub mod clock;
pub mod lifecycle;
mod log_throttle;
mod loop_health;
mod retry_write;

pub use log_throttle::LogThrottle;
pub use loop_health::{LoopHealth, WatchedLoop};
pub use retry_write::retry_write;
