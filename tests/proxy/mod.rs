//! Contract section 1: which requests are routed, and what happens to all others.

mod cors;
mod locations;
mod matching;
mod streaming;
mod upgrade;
