//! The time until another node carries out what a dead node held, at the lease that a fleet has
//! unless it says otherwise.

use std::time::Duration;

use super::nodes::{FRONT, WORKER};
use super::upstream;
use crate::support::postgres::cluster;
use crate::support::time::{Stopwatch, until_within};
use crate::support::{Setup, get, post};

/// What is promised of the usual lease, from the death to the next attempt.
const PROMISED: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_a_killed_worker_held_runs_elsewhere_within_twenty_seconds_of_the_usual_lease() {
    let upstream = upstream().await;
    let setup = Setup::before(&upstream)
        .on(&cluster().database())
        .route("POST /again", "delivery = \"at-least-once\"");
    let front = setup.clone().spawn_as(FRONT).await;
    let mut dies = setup.clone().spawn_as(WORKER).await;
    upstream.hold("/again");
    let ticket = front.accept(post("/again")).await;
    upstream.until_received("/again", 1).await;
    let _lives = setup.spawn_as(WORKER).await;
    let all_beat = || async {
        let told = front.admin(get("/-/nodes")).await.expect(200).json();
        let nodes = told["nodes"].as_array().expect("nodes").clone();
        (nodes.len() == 3 && nodes.iter().all(|node| node["state"] == "alive")).then_some(())
    };
    until_within(PROMISED, "beats of all", all_beat).await;
    dies.kill().await;
    let dead = Stopwatch::start();
    until_within(PROMISED * 2, "the next attempt", || async {
        (upstream.received_at("/again").len() == 2).then_some(())
    })
    .await;
    let took = dead.elapsed();
    upstream.release("/again");
    let document = front.settled(&ticket).await;
    println!(
        "counts: a worker killed at the usual lease of 15 s: its operation began elsewhere after \
         {:.1} s, of 20 s promised",
        took.as_secs_f64()
    );
    assert!(took <= PROMISED, "{took:?}");
    assert_eq!((&document["status"], &document["rescues"]), (&"succeeded".into(), &1.into()));
}
