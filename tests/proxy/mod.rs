//! Contract section 1: routed requests, and the proxy for all others.

mod cors;
mod forwarded_fields;
mod framing;
mod idle_timeouts;
mod incomplete_answers;
mod location_rewriting;
mod nginx;
mod route_evasion;
mod route_matching;
mod streaming;
mod tunnels;
mod upgrade;
