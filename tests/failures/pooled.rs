//! A fleet that reaches its database only through a pooler that lends another session for
//! each transaction, and whose nodes are killed.

use rand::RngExt;

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{LEASE, Load, judged, sent_one_more, setup_on, upstream};
use crate::support::postgres::{PgBouncer, cluster};
use crate::support::time::Stopwatch;

const KILLS: usize = 12;
/// Fewer than the nodes have connections to it.
const SESSIONS: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_behind_a_pooler_lose_and_double_nothing() {
    let upstream = upstream().await;
    let (bouncer, direct) = (PgBouncer::before(cluster(), SESSIONS), cluster().database());
    let through = format!("pooler = \"transaction\"\ndirect_url = {direct:?}");
    let setup = setup_on(&bouncer.url(&direct), &upstream, LEASE).set("store", &through);
    let mut nodes = Nodes::start(setup, &[FRONT, WORKER, BOTH]).await;
    let load = Load::start(&nodes.doors, &upstream);
    let watch = Stopwatch::start();
    for _ in 0..KILLS {
        load.until_more(rand::rng().random_range(5..30)).await;
        // The next kill meets a fleet that works: what the dead held may have been all of it.
        sent_one_more(&upstream).await;
        nodes.kill(rand::rng().random_range(0..nodes.len())).await;
    }
    load.until_more(20).await;
    let what = format!(
        "{KILLS} kills of a fleet on {SESSIONS} sessions of a pooler in {} s",
        watch.elapsed().as_secs()
    );
    let counts = judged(&what, load, nodes.node(0), &upstream).await;
    assert!(counts.rescued + counts.outcome_unknown > 0, "{counts}");
}
