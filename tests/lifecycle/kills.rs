//! Fifty `kill -9` at random moments under load: nothing accepted is lost, and nothing
//! that goes at most once goes twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::gateway::{Front, Process, is_final};
use crate::support::{Answer, Request, Setup, Ticket, Upstream, post, time};

const KILLS: usize = 50;
const CLIENTS: usize = 6;
/// More than one piece, there and back.
const LARGE: usize = 300_000;

/// What clients send, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Once,
    Again,
    /// At most once, answered with a 202 that is followed.
    Followed,
    /// At least once, with a body and an answer of several pieces.
    Large,
    /// At least once, and due a second later.
    Later,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Once, Self::Again, Self::Followed, Self::Large, Self::Later];

    /// Mostly small ones, so that the load stays high.
    const fn of_turn(turn: usize) -> Self {
        match turn % 12 {
            3 => Self::Large,
            5 => Self::Later,
            7 | 11 => Self::Followed,
            even if even.is_multiple_of(2) => Self::Once,
            _ => Self::Again,
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Once => "/once",
            Self::Again => "/again",
            Self::Followed => "/followed",
            Self::Large => "/large",
            Self::Later => "/later",
        }
    }

    const fn is_at_most_once(self) -> bool {
        matches!(self, Self::Once | Self::Followed)
    }

    fn request(self, client: usize, sent: usize) -> Request {
        match self {
            Self::Large => post(self.path()).body("text/plain", large_body(client, sent)),
            Self::Later => post(self.path()).field("Operation-Delay", "1"),
            _ => post(self.path()).json(&json!({ "client": client, "sent": sent })),
        }
    }
}

/// A body whose every piece tells whose it is.
fn large_body(client: usize, sent: usize) -> Vec<u8> {
    format!("{client}-{sent};").into_bytes().into_iter().cycle().take(LARGE).collect()
}

/// Whether a body is one that a client sent, whole.
fn is_large_body(body: &[u8]) -> bool {
    let words = body.iter().position(|octet| *octet == b';').map(|end| &body[..=end]);
    body.len() == LARGE && words.is_some_and(|w| body.iter().eq(w.iter().cycle().take(LARGE)))
}

/// Every 202 that a client has read to its end.
#[derive(Default)]
struct Load {
    accepted: Mutex<Vec<(Kind, Ticket)>>,
    /// Requests whose answer was never read, because the gateway died.
    cut: AtomicUsize,
}

impl Load {
    fn note(&self, kind: Kind, ticket: Ticket) {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).push((kind, ticket));
    }

    fn all(&self) -> Vec<(Kind, Ticket)> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Posts without pause to whatever address is current, until there is none any more.
async fn client(number: usize, mut current: watch::Receiver<Option<SocketAddr>>, load: Arc<Load>) {
    let mut sent = 0;
    loop {
        let Some(address) = *current.borrow_and_update() else { return };
        sent += 1;
        let kind = Kind::of_turn(number * 2 + sent);
        match kind.request(number, sent).try_send(address).await {
            Ok(answer) if answer.status == 202 => load.note(kind, Ticket::of(&answer)),
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            // The process is gone: go on when the next one is there.
            Err(error) => {
                if error.kind() != std::io::ErrorKind::ConnectionRefused {
                    load.cut.fetch_add(1, Ordering::Relaxed);
                }
                if current.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Kills at a random moment: mostly after some more have been accepted, now and then
/// while it is still taking over what the former one left.
async fn kill_at_random(process: &mut Process, load: &Load, rng: &mut StdRng) {
    if rng.random_range(0..5) > 0 {
        let goal = load.count() + rng.random_range(1..40);
        let reached = || async { (load.count() >= goal).then_some(()) };
        time::until("more accepted operations", reached).await;
    }
    time::pause(Duration::from_micros(rng.random_range(0..5_000))).await;
    process.kill().await;
}

fn upstream_answers(upstream: &Upstream) {
    // Long enough that there is always something on the wire.
    let slowly = |answer: Answer| answer.slowly(Duration::from_millis(5));
    for kind in [Kind::Once, Kind::Again, Kind::Later] {
        upstream.on(kind.path(), slowly(Answer::Orders));
    }
    let large = Answer::status(200).body("text/plain", large_body(0, 0));
    upstream.on(Kind::Large.path(), slowly(large));
    let pending = Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "1");
    upstream.on(Kind::Followed.path(), slowly(pending));
    upstream.on("/jobs/1", slowly(Answer::status(200).body("text/plain", "done")));
}

async fn start(upstream: &Upstream) -> Process {
    let mut setup = Setup::before(upstream);
    for kind in Kind::ALL {
        let delivery = if kind.is_at_most_once() { "at-most-once" } else { "at-least-once" };
        setup = setup.route(
            &format!("POST {}", kind.path()),
            &format!("delivery = {delivery:?}\nretry = {{ min = \"10ms\", max = \"100ms\" }}"),
        );
    }
    setup.spawn().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_under_load_lose_nothing_and_send_nothing_twice_that_goes_at_most_once() {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let upstream = Upstream::start().await;
    upstream_answers(&upstream);
    let mut process = start(&upstream).await;
    let load = Arc::new(Load::default());
    let (current, watching) = watch::channel(Some(process.public));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| time::spawn(client(number, watching.clone(), Arc::clone(&load))))
        .collect();
    drop(watching);
    for _ in 0..KILLS {
        kill_at_random(&mut process, &load, &mut rng).await;
        process = process.again().await;
        current.send_replace(Some(process.public));
    }
    current.send_replace(None);
    for client in clients {
        time::within("a client's end", client).await.unwrap();
    }
    let all = load.all();
    let ends = ends(&process, &all).await;
    let lost = count_lost(&process, &ends).await;
    let (double, unsent) = count_sends(&upstream, &all);
    println!(
        "kills: {KILLS}, accepted: {}, lost: {}, double sends at-most-once: {double}",
        all.len(),
        lost + unsent
    );
    let met = Met::of(&upstream, &ends, load.cut.load(Ordering::Relaxed));
    println!("a kill met {met:?}");
    assert_eq!((lost, unsent, double), (0, 0, 0), "seed: {seed}");
    assert!(all.len() >= KILLS, "hardly any load: {}", all.len());
    assert!(met.everything(), "the kills missed something: {met:?}");
}

type End = Result<Value, crate::support::Response>;

/// The final document of each, or what the monitor said instead.
async fn ends(front: &Front, all: &[(Kind, Ticket)]) -> Vec<(Kind, Ticket, End)> {
    let mut ends = Vec::with_capacity(all.len());
    for (kind, ticket) in all {
        let end = time::until_within(Duration::from_mins(1), "the end of all", || async {
            let answer = front.get(&ticket.at("status")).await;
            if answer.status != 200 {
                return Some(Err(answer));
            }
            let document = answer.json();
            is_final(&document).then_some(Ok(document))
        })
        .await;
        ends.push((*kind, ticket.clone(), end));
    }
    ends
}

/// An operation is lost if its monitor does not know it, if it never ends, if it ends
/// otherwise than its promise allows, or if its result is not what the upstream gave.
async fn count_lost(front: &Front, ends: &[(Kind, Ticket, End)]) -> usize {
    let mut lost = 0;
    for (kind, ticket, end) in ends {
        let kept = match end {
            Ok(document) if document["status"] == "succeeded" => {
                *kind != Kind::Large
                    || front.get(&ticket.at("result")).await.body == large_body(0, 0)
            }
            Ok(document) => {
                kind.is_at_most_once() && document["error"]["code"] == "outcome-unknown"
            }
            Err(_) => false,
        };
        if !kept {
            eprintln!("lost: {kind:?} {ticket:?}: {end:?}");
            lost += 1;
        }
    }
    lost
}

/// How often each operation arrived at the upstream.
fn arrivals(upstream: &Upstream, kind: Kind) -> HashMap<String, usize> {
    let mut arrivals = HashMap::new();
    for received in upstream.received_at(kind.path()) {
        *arrivals.entry(received.expect_field("operation-id").to_owned()).or_default() += 1;
        let whole = kind != Kind::Large || is_large_body(&received.body);
        assert!(whole, "a body of {} octets came out otherwise", received.body.len());
    }
    arrivals
}

/// Operations that went at most once and arrived more often, and those that go at least
/// once and never arrived.
fn count_sends(upstream: &Upstream, all: &[(Kind, Ticket)]) -> (usize, usize) {
    let (mut double, mut unsent) = (0, 0);
    for kind in Kind::ALL {
        let arrivals = arrivals(upstream, kind);
        if kind.is_at_most_once() {
            // Also of those whose 202 no client has read.
            double += arrivals.values().filter(|count| **count > 1).count();
        } else {
            let accepted = all.iter().filter(|(of, _)| *of == kind);
            unsent += accepted.filter(|(_, ticket)| !arrivals.contains_key(&ticket.id)).count();
        }
    }
    (double, unsent)
}

/// What the kills have met, to see that they were no kills of an idle process.
#[derive(Debug)]
struct Met {
    /// Requests of clients.
    requests: usize,
    /// Attempts on the wire.
    at_most_once: usize,
    at_least_once: usize,
    large: usize,
    /// Operations of which a 202 was followed to its end.
    followed: usize,
}

impl Met {
    fn of(upstream: &Upstream, ends: &[(Kind, Ticket, End)], requests: usize) -> Self {
        let count = |kind: Kind, wanted: &dyn Fn(&Value) -> bool| {
            let ends = ends.iter().filter(|(of, ..)| *of == kind);
            ends.filter(|(.., end)| end.as_ref().is_ok_and(wanted)).count()
        };
        let rescued = |document: &Value| document["rescues"].as_u64() > Some(0);
        assert!(!upstream.received_at("/jobs/1").is_empty(), "nothing was followed");
        Self {
            requests,
            at_most_once: count(Kind::Once, &|document| document["status"] == "failed"),
            at_least_once: count(Kind::Again, &rescued),
            large: count(Kind::Large, &rescued),
            followed: count(Kind::Followed, &|document| document["status"] == "succeeded"),
        }
    }

    const fn everything(&self) -> bool {
        let Self { requests, at_most_once, at_least_once, large, followed } = *self;
        requests >= KILLS && at_most_once > 0 && at_least_once > 0 && large > 0 && followed > 0
    }
}
