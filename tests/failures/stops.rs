//! A database that is stopped as by a power cut, and started again.

use std::time::Duration;

use rand::RngExt;

use super::nodes::{BOTH, Nodes};
use super::{LEASE, Load, judged, setup_on, upstream};
use crate::support::postgres::Cluster;
use crate::support::time::{Stopwatch, pause, until_within};
use crate::support::{get, post};

const STOPS: usize = 20;
/// Each of this number lasts for longer than a lease.
const LONG: usize = 5;
/// How long a gateway may take to find out that its database is back.
const RECOVERY: Duration = Duration::from_secs(15);

/// Does what takes its time elsewhere, so that the clients go on.
fn beside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// Each refuses what is sent and what is asked for, and says when to come back.
async fn all_refuse(nodes: &Nodes) {
    for number in 0..nodes.len() {
        for request in [post("/once"), get("/-/operations")] {
            let answer = nodes.node(number).send(request).await.expect(503);
            let seconds: u64 = answer.expect_field("retry-after").parse().unwrap();
            assert!((1..=60).contains(&seconds), "{answer:?}");
        }
    }
}

/// Waits until each answers again; never is one started anew.
async fn all_answer(nodes: &Nodes) {
    for number in 0..nodes.len() {
        until_within(RECOVERY, "an answer", || async {
            let answer = nodes.node(number).get("/-/operations?limit=1").await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stops_at_once_twenty_times_loses_and_doubles_nothing() {
    let upstream = upstream().await;
    let cluster = beside(Cluster::start);
    let setup = setup_on(&cluster.database(), &upstream, LEASE);
    let nodes = Nodes::start(setup, &[BOTH, BOTH]).await;
    let load = Load::start(&nodes.doors, &upstream);
    let watch = Stopwatch::start();
    let mut longest = Duration::ZERO;
    for stop in 1..=STOPS {
        load.until_more(rand::rng().random_range(20..80)).await;
        beside(|| cluster.stop());
        all_refuse(&nodes).await;
        if stop % LONG == 0 {
            pause(Duration::from_secs(LEASE + 1)).await;
            all_refuse(&nodes).await;
        }
        beside(|| cluster.start_again());
        let back = Stopwatch::start();
        all_answer(&nodes).await;
        longest = longest.max(back.elapsed());
    }
    load.until_more(25).await;
    let what = format!(
        "{STOPS} immediate stops of the database in {} s, answering again after {} ms at most",
        watch.elapsed().as_secs(),
        longest.as_millis()
    );
    let counts = judged(&what, load, nodes.node(0), &upstream).await;
    assert!(counts.refused >= STOPS, "{counts}");
    // No node died, so no outcome is unknown.
    assert_eq!((counts.outcome_unknown, counts.rescued), (0, 0), "{counts}");
}
