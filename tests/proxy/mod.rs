//! Contract section 1: which requests are routed, and what happens to all others.

mod believed;
mod cors;
mod locations;
mod matching;
mod past_routes;
mod streaming;
mod upgrade;
