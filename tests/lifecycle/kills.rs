//! Fifty `kill -9` at random moments under load: nothing accepted is lost, and nothing
//! that goes at most once goes twice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::watch;

use crate::support::gateway::{Front, Process, is_final};
use crate::support::{Answer, Setup, Ticket, Upstream, post, time};

const KILLS: usize = 50;
const CLIENTS: usize = 6;
const AT_MOST_ONCE: &str = "/once";
const AT_LEAST_ONCE: &str = "/again";

/// Every 202 that a client has read to its end.
#[derive(Default)]
struct Accepted(Mutex<Vec<(&'static str, Ticket)>>);

impl Accepted {
    fn note(&self, path: &'static str, ticket: Ticket) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((path, ticket));
    }

    fn all(&self) -> Vec<(&'static str, Ticket)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Posts without pause to whatever address is current, until there is none any more.
async fn client(
    number: usize,
    mut current: watch::Receiver<Option<SocketAddr>>,
    accepted: Arc<Accepted>,
) {
    let mut sent = 0;
    loop {
        let Some(address) = *current.borrow_and_update() else { return };
        sent += 1;
        let path = if (number + sent).is_multiple_of(2) { AT_MOST_ONCE } else { AT_LEAST_ONCE };
        let request = post(path).json(&json!({ "client": number, "sent": sent }));
        match request.try_send(address).await {
            Ok(answer) if answer.status == 202 => accepted.note(path, Ticket::of(&answer)),
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            // The process is gone: go on when the next one is there.
            Err(_) => {
                if current.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Kills at a random moment after some more have been accepted.
async fn kill_at_random(process: &mut Process, accepted: &Accepted, rng: &mut StdRng) {
    let goal = accepted.count() + rng.random_range(1..40);
    let reached = || async { (accepted.count() >= goal).then_some(()) };
    time::until("more accepted operations", reached).await;
    time::pause(Duration::from_micros(rng.random_range(0..5_000))).await;
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_under_load_lose_nothing_and_send_nothing_twice_that_goes_at_most_once() {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let upstream = Upstream::start().await;
    for path in [AT_MOST_ONCE, AT_LEAST_ONCE] {
        // Long enough that there is always something on the wire.
        upstream.on(path, Answer::Orders.slowly(Duration::from_millis(5)));
    }
    let mut process = Setup::before(&upstream)
        .route(&format!("POST {AT_MOST_ONCE}"), "delivery = \"at-most-once\"")
        .route(&format!("POST {AT_LEAST_ONCE}"), "delivery = \"at-least-once\"")
        .spawn()
        .await;
    let accepted = Arc::new(Accepted::default());
    let (current, watching) = watch::channel(Some(process.public));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| time::spawn(client(number, watching.clone(), Arc::clone(&accepted))))
        .collect();
    drop(watching);
    for _ in 0..KILLS {
        kill_at_random(&mut process, &accepted, &mut rng).await;
        process = process.again().await;
        current.send_replace(Some(process.public));
    }
    current.send_replace(None);
    for client in clients {
        time::within("a client's end", client).await.unwrap();
    }
    let all = accepted.all();
    let lost = count_lost(&process, &all).await;
    let double = count_double_sends(&upstream, &all);
    println!(
        "kills: {KILLS}, accepted: {}, lost: {lost}, double sends at-most-once: {double}",
        all.len()
    );
    assert_eq!((lost, double), (0, 0), "seed: {seed}");
    assert!(all.len() >= KILLS, "hardly any load: {}", all.len());
}

/// An operation is lost if its monitor does not know it, if it never ends, or if it ends
/// otherwise than its promise allows.
async fn count_lost(front: &Front, all: &[(&'static str, Ticket)]) -> usize {
    let mut lost = 0;
    for (path, ticket) in all {
        let outcome = time::until_within(Duration::from_mins(1), "the end of all", || async {
            let answer = front.get(&ticket.at("status")).await;
            if answer.status != 200 {
                return Some(Err(answer));
            }
            let document = answer.json();
            is_final(&document).then_some(Ok(document))
        })
        .await;
        let kept = match &outcome {
            Ok(document) if document["status"] == "succeeded" => true,
            Ok(document) => *path == AT_MOST_ONCE && document["error"]["code"] == "outcome-unknown",
            Err(_) => false,
        };
        if !kept {
            eprintln!("lost: {path} {ticket:?}: {outcome:?}");
            lost += 1;
        }
    }
    lost
}

fn count_double_sends(upstream: &Upstream, all: &[(&'static str, Ticket)]) -> usize {
    let ids = |path: &str| {
        let mut ids: Vec<_> = upstream
            .received_at(path)
            .iter()
            .map(|received| received.expect_field("operation-id").to_owned())
            .collect();
        ids.sort();
        ids
    };
    // Also of those whose 202 nobody has read.
    let once = ids(AT_MOST_ONCE);
    let double = once.windows(2).filter(|pair| pair[0] == pair[1]).count();
    // What goes at least once must have arrived.
    let again = ids(AT_LEAST_ONCE);
    let arrived = |ticket: &Ticket| again.binary_search(&ticket.id).is_ok();
    let missing = all.iter().filter(|(path, t)| *path == AT_LEAST_ONCE && !arrived(t)).count();
    assert_eq!(missing, 0, "finished without having been sent");
    double
}
