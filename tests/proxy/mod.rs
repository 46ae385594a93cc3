//! Contract section 1: which requests are routed, and what happens to all others.

mod believed;
mod broken_off;
mod cors;
mod framing;
mod locations;
mod matching;
mod nginx;
mod past_routes;
mod silence;
mod streaming;
mod tunnels;
mod upgrade;
