//! Queues by what may be expected of them, limits, and upstreams that are down.

mod breaker;
mod limits;
mod pausing;
mod seen;
mod turns;
