//! `kill -9` of nodes that accept, work and send, with a subscription to every end.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::{Load, setup, upstream, verification};
use crate::support::{Manner, Receiver, time};
use crate::webhooks::delivery_listing::{Told, open_to, subscribed, until_told};

const KILLS: usize = 100;
/// So that there is always something on its way.
const ANSWERED_AFTER: Duration = Duration::from_millis(15);
/// Between two kills, at most.
const PAUSE: u64 = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_of_a_fleet_lose_no_event_and_change_no_message() {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (upstream, receiver) = (upstream().await, Receiver::start().await);
    receiver.on("/hooks", Manner::status(204).slowly(ANSWERED_AFTER));
    let setup = setup(&upstream).set("webhooks", &open_to(&receiver));
    let mut nodes = Nodes::start(setup, &[FRONT, WORKER, WORKER, BOTH]).await;
    let subscription = subscribed(nodes.node(0), &receiver).await;
    let load = Load::start(&nodes.doors, &upstream);
    for _ in 0..KILLS {
        load.until_more(rng.random_range(1..12)).await;
        time::pause(Duration::from_millis(rng.random_range(0..PAUSE))).await;
        nodes.kill(rng.random_range(0..nodes.len())).await;
    }
    let seen = load.end().await;
    let counts = verification::judge(nodes.node(0), &upstream, &seen).await;
    let ids: Vec<_> = seen.accepted.iter().map(|(_, ticket)| ticket.id.clone()).collect();
    until_told(nodes.node(0), &subscription, &receiver, &ids).await;
    let told = Told::of(nodes.node(0), &subscription, &receiver).await;
    println!("counts: {KILLS} kills of a fleet that tells subscribers; {told}; {counts}");
    counts.assert_kept(&seen);
    told.assert_kept();
    assert!(told.cut_off > 0, "no kill met an attempt");
}
