//! Nodes that stand still for longer than their lease, and then go on.

use std::time::Duration;

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{LEASE, Load, judged, setup, upstream};
use crate::support::gateway::Process;
use crate::support::time::{Stopwatch, until_within};
use crate::support::{Upstream, get};

const ROUNDS: usize = 6;
/// What finding out, and taking over, may take on a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(LEASE + 18);

/// How many nodes this one takes for that.
async fn count(node: &Process, state: &str) -> usize {
    let told = node.admin(get("/-/nodes")).await.expect(200).json();
    let nodes = told["nodes"].as_array().expect("nodes").iter();
    nodes.filter(|node| node["state"] == state).count()
}

async fn until_count(node: &Process, state: &str, wanted: usize) {
    until_within(TAKEN_OVER, "what the others take it for", || async {
        (count(node, state).await == wanted).then_some(())
    })
    .await;
}

/// Stops it while something is on the wire, perhaps of its own.
async fn freeze_at_work(node: &Process, upstream: &Upstream) {
    let before = upstream.received().len();
    until_within(TAKEN_OVER, "an arrival", || async {
        (upstream.received().len() > before).then_some(())
    })
    .await;
    node.signal("STOP").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_stand_still_past_their_lease_end_nothing_twice() {
    let upstream = upstream().await;
    let nodes = Nodes::start(setup(&upstream), &[FRONT, BOTH, WORKER, WORKER]).await;
    let load = Load::start(&nodes.doors, &upstream);
    let watch = Stopwatch::start();
    for round in 0..ROUNDS {
        load.until_more(20).await;
        // One that works each time; now and then one that clients talk to.
        let number = 1 + round % 3;
        if number == 1 {
            nodes.doors.close(number);
        }
        freeze_at_work(nodes.node(number), &upstream).await;
        until_count(nodes.node(0), "dead", 1).await;
        load.until_more(20).await;
        nodes.node(number).signal("CONT").await;
        until_count(nodes.node(0), "alive", nodes.len()).await;
        nodes.open(number);
    }
    let what = format!(
        "{ROUNDS} nodes stopped past their lease and let go on in {} s",
        watch.elapsed().as_secs()
    );
    let counts = judged(&what, load, nodes.node(0), &upstream).await;
    assert!(counts.rescued + counts.outcome_unknown > 0, "{counts}");
}
