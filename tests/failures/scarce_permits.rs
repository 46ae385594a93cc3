//! Fewer attempts at once than there are nodes that want one, while nodes are killed.

use std::time::Duration;

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{LEASE, Load, judged, setup_of, upstream_taking};
use crate::support::postgres::cluster;
use crate::support::time::Stopwatch;

const AT_ONCE: usize = 2;
/// Short, so that two at once get most of it done.
const TIME: Duration = Duration::from_millis(12);
/// Those that are killed, one after the other.
const KILLED: [usize; 4] = [1, 2, 4, 3];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_below_the_number_of_nodes_is_kept_while_they_die() {
    let upstream = upstream_taking(TIME).await;
    let setup = setup_of(&cluster().database(), &upstream, LEASE, AT_ONCE);
    let mut nodes = Nodes::start(setup, &[FRONT, WORKER, WORKER, WORKER, BOTH]).await;
    let load = Load::start(&nodes.doors, &upstream);
    let watch = Stopwatch::start();
    for number in KILLED {
        load.until_more(30).await;
        nodes.kill(number).await;
    }
    load.until_more(30).await;
    let what = format!(
        "{} kills of nodes that share {AT_ONCE} permits in {} s",
        KILLED.len(),
        watch.elapsed().as_secs()
    );
    let counts = judged(&what, load, nodes.node(0), &upstream).await;
    assert!(counts.at_once <= AT_ONCE, "{counts}");
}
