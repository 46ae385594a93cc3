//! Queues: priority, limits, pause, and upstreams that are down.

mod breaker;
mod limits;
mod pause;
mod priority;
mod visibility;
