//! A whole fleet that is replaced, one node after the other.

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{Load, judged, setup, upstream};
use crate::support::time::Stopwatch;

const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_fleet_loses_nothing_and_repeats_nothing() {
    let upstream = upstream().await;
    let mut nodes = Nodes::start(setup(&upstream), &[FRONT, WORKER, BOTH, FRONT, WORKER]).await;
    let load = Load::start(&nodes.doors, &upstream);
    let watch = Stopwatch::start();
    for _ in 0..ROUNDS {
        for number in 0..nodes.len() {
            load.until_more(10).await;
            nodes.restart(number).await;
        }
    }
    load.until_more(10).await;
    let restarts = ROUNDS * nodes.len();
    let what = format!("{restarts} nodes replaced one by one in {} s", watch.elapsed().as_secs());
    let counts = judged(&what, load, nodes.node(0), &upstream).await;
    // Each request that was let in was answered, and each attempt ended where it ran. Who
    // knocks in the very moment in which a door closes is cut off by the system.
    assert_eq!((counts.unread, counts.outcome_unknown), (0, 0), "{counts}");
    assert!(counts.cut <= 2, "{counts}");
    assert_eq!((counts.rescued, counts.repeated), (0, 0), "{counts}");
    // Each node that left had told all that it knew.
    assert_eq!(counts.recounted, 0, "{counts}");
}
