//! Attempts whose task panics behind the request, on a node that goes on.
//!
//! Nothing that a client or an upstream can do makes an attempt panic. A ledger that was
//! tampered with does, in a build with overflow checks, as the tests' is: a count of
//! refusals that cannot rise, and an upstream that refuses once more.

use super::nodes::{FRONT, WORKER};
use super::{LEASE, SLOWLY, setup_on, upstream};
use crate::support::gateway::{Front, is_final};
use crate::support::postgres::cluster;
use crate::support::time::until_within;
use crate::support::{Answer, Ticket, post};

/// Of each promise; more than there are slots.
const PANICS: usize = 10;

async fn ends(front: &Front, tickets: &[Ticket]) -> Vec<serde_json::Value> {
    let mut ends = Vec::new();
    for ticket in tickets {
        let end = until_within(std::time::Duration::from_mins(1), "an end", || async {
            Some(front.document(ticket).await).filter(is_final)
        });
        ends.push(end.await);
    }
    ends
}

#[tokio::test]
async fn attempts_that_panic_are_ended_with_the_beat_and_take_no_slot_with_them() {
    let upstream = upstream().await;
    let refuses = Answer::status(429).field("Retry-After", "1").slowly(SLOWLY);
    let database = cluster().database();
    let setup = setup_on(&database, &upstream, LEASE);
    let front = setup.clone().spawn_as(FRONT).await;
    let mut tickets = [Vec::new(), Vec::new()];
    for (path, tickets) in ["/once", "/again"].into_iter().zip(&mut tickets) {
        upstream.script(path, vec![refuses.clone(); PANICS]);
        for _ in 0..PANICS {
            tickets.push(front.accept(post(path)).await);
        }
    }
    let name = database.rsplit('/').next().unwrap();
    cluster().sql(name, &format!("UPDATE ready SET refusals = {}", u32::MAX));
    let worker = setup.spawn_as(&[WORKER, &["--slots", "4"]].concat()).await;
    let [once, again] = tickets;
    let (once, again) = (ends(&front, &once).await, ends(&front, &again).await);
    let unknown = once.iter().filter(|end| end["error"]["code"] == "outcome-unknown").count();
    let rescued = again.iter().filter(|end| end["rescues"].as_u64() > Some(0)).count();
    let finished = again.iter().filter(|end| end["status"] == "succeeded").count();
    let twice = upstream.received_at("/once").len() - PANICS;
    let panics = worker.stderr().matches("panicked at").count();
    println!(
        "counts: {panics} attempts panicked: at most once, outcome unknown {unknown} of {PANICS}, \
         sent twice {twice}; at least once, rescued {rescued} and finished {finished} of {PANICS}"
    );
    assert_eq!((unknown, twice, rescued, finished), (PANICS, 0, PANICS, PANICS));
    assert_eq!(panics, 2 * PANICS);
    // Each slot is free again.
    let after = front.accept(post("/once")).await;
    assert_eq!(front.settled(&after).await["status"], "succeeded");
}
