//! The reported depth of a queue, after the death of nodes with uncounted work, under load.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{LEASE, Load, judged, setup_on, upstream};
use crate::support::gateway::Front;
use crate::support::get;
use crate::support::postgres::cluster;
use crate::support::time::{Stopwatch, until_within};

/// More than that comes in, so that the queue is never empty.
const RATE: &str = "rate = \"80/s\"";
/// What the dead are made to have left untold beside what they really did: more than
/// anything else that is untold.
const UNTOLD: i64 = 400;
/// How far what is shown may be from what there is: what others have done since they told.
const NEAR: i64 = 120;
/// A death is found out about, and some beats are looked at.
const PUT_RIGHT: Duration = Duration::from_secs(LEASE + 28);

/// How many operations are said to be queued, and how many there are.
async fn depths(front: &Front, database: &str) -> (i64, i64) {
    let told = front.admin(get("/-/queues")).await.expect(200).json();
    let queues = told["queues"].as_array().expect("queues").iter();
    let told = queues.filter_map(|queue| queue["depth"].as_i64()).sum();
    let name = database.rsplit('/').next().unwrap().to_owned();
    // Those that wait for a serial key count as queued, too.
    let count = "SELECT (SELECT count(*) FROM ready) \
         + (SELECT count(*) FROM waiting WHERE waiting_for = 'serial-key')";
    let counted = tokio::task::block_in_place(|| cluster().sql(&name, count));
    (told, counted.parse().unwrap())
}

/// Whether the depth that is told is near the one that is there, as far as that can be said
/// while it changes.
async fn is_near(front: &Front, database: &str) -> bool {
    let (told, counted) = depths(front, database).await;
    (told - counted).abs() <= NEAR
}

/// Waits until the depth that is told is near the one that is there.
async fn until_near(front: &Front, database: &str) {
    until_within(PUT_RIGHT, "the right depth", || async {
        is_near(front, database).await.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_s_depth_is_right_again_after_kills_while_the_load_goes_on() {
    let (upstream, database) = (upstream().await, cluster().database());
    let setup = setup_on(&database, &upstream, LEASE).set("queues.default", RATE);
    let mut nodes = Nodes::start(setup, &[FRONT, BOTH, WORKER, WORKER]).await;
    let load = Load::start(&nodes.doors, &upstream);
    load.until_more(100).await;
    until_near(nodes.node(0), &database).await;
    let untold = format!(
        "INSERT INTO counters SELECT lane, 0, {UNTOLD}, 0 FROM lanes WHERE NOT express \
         ON CONFLICT (lane, incarnation) DO UPDATE SET depth = counters.depth + {UNTOLD}"
    );
    let name = database.rsplit('/').next().unwrap();
    let looks = AtomicU32::new(0);
    until_within(PUT_RIGHT, "a wrong depth", || async {
        // A node that has just started compares with rows, too, and may put it right before it is seen.
        if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
            tokio::task::block_in_place(|| cluster().sql(name, &untold));
        }
        (!is_near(nodes.node(0), &database).await).then_some(())
    })
    .await;
    let watch = Stopwatch::start();
    nodes.kill(1).await;
    nodes.kill(2).await;
    let before = upstream.received().len();
    until_near(nodes.node(0), &database).await;
    let took = watch.elapsed().as_secs();
    assert!(upstream.received().len() > before, "the load goes on");
    let (told, counted) = depths(nodes.node(0), &database).await;
    let what = format!(
        "2 kills that left {UNTOLD} untold, put right after {took} s: {told} of {counted} told"
    );
    judged(&what, load, nodes.node(0), &upstream).await;
}
