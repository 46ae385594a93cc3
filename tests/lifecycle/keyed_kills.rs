//! `kill -9` between the moment that a key is stored and the one that its answer is read:
//! a client that repeats the request gets the one operation of that key, and no key is left
//! without its operation.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::watch;

use crate::support::gateway::{Front, Process, next_page, operations_of};
use crate::support::strace::Strace;
use crate::support::{Answer, Request, Response, Setup, Ticket, Upstream, post, time};

const KILLS: usize = 20;
const CLIENTS: usize = 6;

/// An order with a key, which its document shows as the client's reference.
fn keyed(key: &str) -> Request {
    let order = post("/orders").json(&json!({ "order": key }));
    order.field("Idempotency-Key", key).field("Client-Reference", key)
}

fn is_replayed(answer: &Response) -> bool {
    answer.field("idempotency-replayed") == Some("true")
}

/// Every operation in the ledger, by its key.
async fn by_key(front: &Front) -> HashMap<String, Vec<String>> {
    let mut by_key: HashMap<String, Vec<String>> = HashMap::new();
    let mut page = Some("/-/operations?limit=200".to_owned());
    while let Some(target) = page {
        let list = front.get(&target).await.expect(200).json();
        for document in operations_of(&list) {
            let text = |member: &str| document[member].as_str().unwrap().to_owned();
            by_key.entry(text("clientReference")).or_default().push(text("id"));
        }
        page = next_page(&list);
    }
    by_key
}

/// Kills a gateway while its `fsync` is held up like this, once it has come that far, and
/// gives the next one with the answer to the repeated request.
async fn repeated_after(tampering: &str, noted: &str) -> Option<(Upstream, Process, Response)> {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).spawn().await;
    let strace = Strace::on_syncs(&process, tampering).await?;
    let address = process.public;
    let unanswered = time::spawn(async move { keyed("k").try_send(address).await });
    strace.until_noted(noted).await;
    // It is gone only when the tracer that holds its call up has let go of it.
    process.signal("KILL").await;
    drop(strace);
    process.ended().await;
    assert!(unanswered.await.unwrap().is_err(), "answered before it was durable");
    let process = process.again().await;
    let answer = process.send(keyed("k")).await.expect(202);
    Some((upstream, process, answer))
}

#[tokio::test]
async fn a_key_that_was_stored_when_its_gateway_died_unanswered_has_its_one_operation() {
    // The record is written when the `fsync` begins, and durable when it ends.
    for (tampering, noted) in
        [("delay_enter=60000000", "sync("), ("delay_exit=60000000", "(DELAYED)")]
    {
        let Some((upstream, process, answer)) = repeated_after(tampering, noted).await else {
            return;
        };
        assert!(is_replayed(&answer), "{tampering}: {answer:?}");
        let ticket = Ticket::of(&answer);
        process.settled(&ticket).await;
        let expected = HashMap::from([("k".to_owned(), vec![ticket.id.clone()])]);
        assert_eq!(by_key(&process).await, expected, "{tampering}");
        assert!(upstream.counts("operation-id").into_values().all(|count| count == 1));
    }
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    /// The operation that each answered key was told to have.
    told: HashMap<String, Ticket>,
    /// Keys that were told two operations.
    contradicted: HashSet<String>,
    /// Keys whose answer was cut off at least once.
    cut: HashSet<String>,
    /// Of these, the ones that the repeat found stored.
    stored: HashSet<String>,
}

#[derive(Default)]
struct Load(Mutex<Seen>);

impl Load {
    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self) -> usize {
        self.with(|seen| seen.told.len())
    }

    fn note(&self, key: &str, answer: &Response) {
        let ticket = Ticket::of(answer);
        self.with(|seen| {
            if seen.cut.contains(key) && is_replayed(answer) {
                seen.stored.insert(key.to_owned());
            }
            let first = seen.told.entry(key.to_owned()).or_insert_with(|| ticket.clone());
            if *first != ticket {
                seen.contradicted.insert(key.to_owned());
            }
        });
    }
}

/// Sends one keyed request after the other, each until it is answered, and every third
/// once more, until no gateway is left to send to.
async fn client(number: usize, mut current: watch::Receiver<Option<SocketAddr>>, load: Arc<Load>) {
    let mut sent = 0;
    loop {
        let Some(address) = *current.borrow_and_update() else { return };
        let key = format!("{number}-{}", sent / 4 * 3 + (sent % 4).min(2));
        match keyed(&key).try_send(address).await {
            Ok(answer) if answer.status == 202 => {
                load.note(&key, &answer);
                sent += 1;
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::ConnectionRefused {
                    load.with(|seen| seen.cut.insert(key));
                }
                if current.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn kill_at_random(process: &mut Process, load: &Load, rng: &mut StdRng) {
    let goal = load.count() + rng.random_range(1..40);
    let reached = || async { (load.count() >= goal).then_some(()) };
    time::until("more answered keys", reached).await;
    time::pause(Duration::from_micros(rng.random_range(0..5_000))).await;
    process.kill().await;
}

/// Keys of which the ledger has several operations, and those of which it has not the one
/// that their client was told of.
fn count_wrong(stored: &HashMap<String, Vec<String>>, seen: &Seen) -> (usize, usize) {
    let several =
        stored.iter().filter(|(key, ids)| ids.len() > 1 || seen.contradicted.contains(*key));
    let without = seen
        .told
        .iter()
        .filter(|(key, ticket)| !stored.get(*key).is_some_and(|ids| ids.contains(&ticket.id)));
    (several.count(), without.count())
}

/// Keys that reached the upstream more than once, at most once as they go.
fn count_sent_twice(upstream: &Upstream) -> usize {
    upstream.counts("idempotency-key").into_values().filter(|count| *count > 1).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_keyed_load_leave_one_operation_for_every_key() {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Orders.slowly(Duration::from_millis(2)));
    let mut process = Setup::before(&upstream).spawn().await;
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
    // Each has repeated what was cut before it goes on to the next.
    let goal = load.count() + 4 * CLIENTS;
    time::until("the last repeats", || async { (load.count() >= goal).then_some(()) }).await;
    current.send_replace(None);
    for client in clients {
        time::within("a client's end", client).await.unwrap();
    }
    let tickets: Vec<Ticket> = load.with(|seen| seen.told.values().cloned().collect());
    for ticket in &tickets {
        process.settled(ticket).await;
    }
    let stored = by_key(&process).await;
    let (several, without) = load.with(|seen| count_wrong(&stored, seen));
    let twice = count_sent_twice(&upstream);
    let (cut, kept) = load.with(|seen| (seen.cut.len(), seen.stored.len()));
    println!(
        "kills: {KILLS}, keys: {}, cut off before their answer: {cut}, of them stored: {kept}, \
         keys with several operations: {several}, keys without theirs: {without}, sent twice: {twice}",
        tickets.len()
    );
    assert_eq!((several, without, twice), (0, 0, 0), "seed: {seed}");
    assert!(cut > 0 && kept > 0, "no kill fell between the storing of a key and its answer");
}
