//! Nodes whose machines' clocks are two minutes off, under load and beside right ones.

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{Load, judged, setup, upstream};
use crate::support::get;
use crate::support::time::Stopwatch;

const ORDERS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_two_minutes_off_lose_and_double_nothing() {
    for offset in ["+120s", "-120s"] {
        let upstream = upstream().await;
        let setup = setup(&upstream);
        let mut nodes = Nodes::start(setup.clone(), &[FRONT, WORKER]).await;
        nodes.add(setup.spawn_off_by(offset).await, BOTH);
        let load = Load::start(&nodes.doors, &upstream);
        let watch = Stopwatch::start();
        load.until_more(ORDERS).await;
        let told = nodes.node(0).admin(get("/-/nodes")).await.expect(200).json();
        let told = told["nodes"].as_array().expect("nodes");
        assert!(told.len() == 3 && told.iter().all(|node| node["state"] == "alive"), "{told:?}");
        let what =
            format!("one clock of three off by {offset} for {} s", watch.elapsed().as_secs());
        let counts = judged(&what, load, nodes.node(0), &upstream).await;
        assert_eq!((counts.refused, counts.cut, counts.outcome_unknown), (0, 0, 0), "{counts}");
        assert_eq!((counts.rescued, counts.resumed, counts.repeated), (0, 0, 0), "{counts}");
    }
}
