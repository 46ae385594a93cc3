//! A fleet of real processes on a real database, under load, while a part of it fails.
//!
//! Each test prints one line of counts that begins with `counts: `, which `scripts/test`
//! shows again together. What is looked at is always the same and stands in `verification`; a
//! test only says what fails, and what of the outcome the failure explains.

mod clocks;
mod connection_cuts;
mod depths;
mod detection;
mod frozen_nodes;
mod kills;
mod load;
mod nodes;
mod observations;
mod panics;
mod pooled;
mod rolling;
mod scarce_permits;
mod stops;
mod verification;
mod webhook_kills;

use std::time::Duration;

use crate::support::gateway::Front;
use crate::support::postgres::cluster;
use crate::support::{Answer, Setup, Upstream, time};
use load::Load;
use verification::Counts;

/// The lease where a test does not say otherwise, in seconds.
const LEASE: u64 = 2;
/// How long the upstream takes: long enough that there is always something on the wire.
const SLOWLY: Duration = Duration::from_millis(60);

/// How many attempts of the fleet may be at the upstream at once.
const AT_ONCE: usize = 8;

/// An order service at both paths.
async fn upstream() -> Upstream {
    upstream_taking(SLOWLY).await
}

async fn upstream_taking(time: Duration) -> Upstream {
    let upstream = Upstream::start().await;
    for path in ["/once", "/again"] {
        upstream.on(path, Answer::Orders.slowly(time));
    }
    upstream
}

/// What all nodes of a fleet share, on a database of its own.
fn setup(upstream: &Upstream) -> Setup {
    setup_on(&cluster().database(), upstream, LEASE)
}

fn setup_on(database: &str, upstream: &Upstream, lease: u64) -> Setup {
    setup_of(database, upstream, lease, AT_ONCE)
}

/// The same with so many attempts at once at most.
fn setup_of(database: &str, upstream: &Upstream, lease: u64, at_once: usize) -> Setup {
    let retry = "retry = { min = \"10ms\", max = \"100ms\" }";
    // So that documents are the same whichever node they are asked of.
    Setup::before(upstream)
        .on(database)
        .set("server", "public_url = \"http://fleet.test\"")
        .set("store", &format!("lease = \"{lease}s\""))
        .set("queues.default", &format!("max_in_flight = {at_once}"))
        .route("POST /once", "delivery = \"at-most-once\"")
        .route("POST /again", &format!("delivery = \"at-least-once\"\n{retry}"))
}

/// Waits until the fleet sends another request from now on.
async fn sent_one_more(upstream: &Upstream) {
    let before = upstream.requests();
    let sent = || async { (upstream.requests() > before).then_some(()) };
    time::until("another request of the fleet", sent).await;
}

/// Ends the load, waits until nothing is pending, and prints what became of it all.
async fn judged(what: &str, load: Load, front: &Front, upstream: &Upstream) -> Counts {
    let seen = load.end().await;
    let counts = verification::judge(front, upstream, &seen).await;
    println!("counts: {what}; {counts}");
    counts.assert_kept(&seen);
    counts
}
