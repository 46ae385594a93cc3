//! `kill -9` of random nodes at random moments.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{Load, judged, setup, upstream};
use crate::support::time::{self, Stopwatch};

/// How many kills, and over how many seconds.
fn wanted() -> (u32, Duration) {
    let number = |name, usual| time::number_from_environment(name).unwrap_or(usual);
    let kills = number("FLEET_KILLS", 100);
    (kills as u32, Duration::from_secs(number("FLEET_KILLS_SECONDS", 100)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_of_fronts_and_workers_lose_and_double_nothing() {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (kills, over) = wanted();
    let upstream = upstream().await;
    let mut nodes = Nodes::start(setup(&upstream), &[FRONT, FRONT, WORKER, WORKER, BOTH]).await;
    let load = Load::start(&nodes.doors, &upstream);
    let watch = Stopwatch::start();
    for kill in 1..=kills {
        // Some have to be accepted between any two, so that none meets an idle fleet.
        load.until_more(rng.random_range(1..20)).await;
        let rest = (over * kill / kills).saturating_sub(watch.elapsed());
        time::pause(rest.mul_f64(rng.random_range(0.0..2.0)).min(over / kills * 3)).await;
        nodes.kill(rng.random_range(0..nodes.len())).await;
    }
    let took = watch.elapsed().as_secs();
    let what = format!("{kills} kills of a fleet in {took} s");
    let counts = judged(&what, load, nodes.node(0), &upstream).await;
    assert!(counts.cut > 0 && counts.rescued > 0 && counts.outcome_unknown > 0, "{counts}");
}
