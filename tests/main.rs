//! The black-box tests: everything here speaks HTTP to a gateway over a real socket.
//!
//! One binary, so that it links once. `support` holds the fake upstream, the client and
//! the gateway under test; every other module is named after the part of the public
//! interface that it holds to the contract. A test's name is the sentence it proves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![allow(unreachable_pub, reason = "nothing of a test binary is reachable from outside")]

mod acceptance;
mod admin;
mod bad_input;
mod cli;
mod database;
mod delivery;
mod expect;
mod failures;
mod fleet;
mod idempotency;
mod layers;
mod lifecycle;
mod monitor;
mod proxy;
mod queues;
mod support;
mod webhooks;
