//! Connections to the database that are cut: before a COMMIT arrives, after it has taken
//! effect and before anybody is told, and anywhere else.

use std::time::Duration;

use rand::RngExt;

use super::nodes::{BOTH, FRONT, Nodes, WORKER};
use super::verification::Counts;
use super::{Load, judged, setup_on, upstream};
use crate::support::client::post;
use crate::support::cutter::{Cutter, Moment, Work};
use crate::support::postgres::cluster;
use crate::support::time::{Stopwatch, pause};
use crate::support::{Answer, Upstream};

const CUTS: usize = 30;
/// Long enough that a beat that is lost with its connection makes no node look dead, in
/// seconds.
const LEASE: u64 = 4;

/// Has connections cut under load, and counts what came of it.
async fn cut(what: &str, cuts: impl AsyncFn(&Cutter, &Load)) -> Counts {
    let upstream = upstream().await;
    let cutter = Cutter::before(cluster().port()).await;
    let setup = setup_on(&cutter.url(&cluster().database()), &upstream, LEASE);
    let nodes = Nodes::start(setup, &[FRONT, WORKER, BOTH]).await;
    let load = Load::start(&nodes.doors, &upstream);
    load.until_more(10).await;
    let watch = Stopwatch::start();
    cuts(&cutter, &load).await;
    let took = watch.elapsed().as_secs();
    load.until_more(20).await;
    let what = format!("{} database connections cut {what} in {took} s", cutter.cuts());
    let counts = judged(&what, load, nodes.node(0), &upstream).await;
    // No node died: what was not begun goes back, and what was sent is ended by who sent it.
    assert_eq!((counts.outcome_unknown, counts.rescued, counts.repeated), (0, 0, 0), "{counts}");
    counts
}

/// At each kind of work in turn.
async fn cut_at_commits(what: &str, moment: Moment) -> Counts {
    let work = [Work::Accepting, Work::HandingOut, Work::Ending];
    cut(what, async |cutter: &Cutter, load: &Load| {
        for number in 0..CUTS {
            load.until_more(2).await;
            cutter.cut_at_commit(moment, work[number % work.len()]).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_before_a_commit_arrives_lose_and_double_nothing() {
    let counts = cut_at_commits("before a COMMIT", Moment::Before).await;
    assert!(counts.refused > 0 && counts.stored == 0, "{counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_between_a_commit_and_its_answer_lose_and_double_nothing() {
    let counts = cut_at_commits("after a COMMIT", Moment::After).await;
    // Operations that were accepted or handed out without an answer are found again.
    assert!(counts.stored > 0 && counts.resumed > 0, "{counts}");
}

/// The settlement took effect, and its repeat is told that the lease is stale.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_is_whole_whose_commit_took_effect_without_an_answer() {
    let upstream = Upstream::start().await;
    let large: Vec<u8> = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
    upstream.on("/large", Answer::status(200).body("text/csv", large.clone()));
    let cutter = Cutter::before(cluster().port()).await;
    let setup = setup_on(&cutter.url(&cluster().database()), &upstream, LEASE);
    let nodes = Nodes::start(setup.route("POST /large", ""), &[BOTH]).await;
    let front = nodes.node(0);
    for _ in 0..3 {
        let cut = cutter.cut_at_commit(Moment::After, Work::Ending);
        let (ticket, ()) = tokio::join!(front.accept(post("/large")), cut);
        front.until_status(&ticket, "succeeded").await;
        // The repeat is over once another operation has ended behind it.
        let next = front.accept(post("/large")).await;
        front.until_status(&next, "succeeded").await;
        let result = front.get(&ticket.at("result")).await.expect(200);
        assert!(result.body == large, "{} octets came back", result.body.len());
    }
    println!("counts: 3 database connections cut after a COMMIT of a large answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_anywhere_and_all_at_once_lose_and_double_nothing() {
    let counts = cut("anywhere", async |cutter: &Cutter, load: &Load| {
        for number in 1..=2 * CUTS {
            load.until_more(2).await;
            pause(Duration::from_micros(rand::rng().random_range(0..60_000))).await;
            match number % 6 {
                0 => assert!(cutter.cut_all() > 0),
                _ => cutter.cut_one(rand::rng().random_range(0..1000)),
            }
        }
    })
    .await;
    assert!(counts.accepted > CUTS, "{counts}");
}
