//! A hundred `kill -9` of a gateway that sends, under load: every event reaches its
//! receiver, always as the same message.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::gateway::{Process, order, path_of};
use crate::support::{Arrival, Manner, Receiver, Setup, Ticket, Upstream, get, post, time};

const KILLS: usize = 100;
const CLIENTS: usize = 4;
/// So that there is always something on its way.
const ANSWERED_AFTER: Duration = Duration::from_millis(4);

/// Every 202 that a client has read to its end.
#[derive(Default)]
struct Accepted(Mutex<Vec<String>>);

impl Accepted {
    fn note(&self, ticket: Ticket) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(ticket.id);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Posts without pause to whatever address is current, until there is none any more.
async fn client(mut current: watch::Receiver<Option<SocketAddr>>, accepted: Arc<Accepted>) {
    loop {
        let Some(address) = *current.borrow_and_update() else { return };
        match order().try_send(address).await {
            Ok(answer) if answer.status == 202 => accepted.note(Ticket::of(&answer)),
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

async fn subscribed(process: &Process, receiver: &Receiver) -> String {
    let wanted = json!({ "url": receiver.url("/hooks"), "events": ["operation.succeeded", "operation.failed"] });
    let made = process.send(post("/-/webhooks").json(&wanted)).await.expect(201);
    path_of(made.expect_field("location")).to_owned()
}

/// Every delivery of a subscription, once all of them are over.
async fn deliveries(process: &Process, subscription: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut page = format!("{subscription}/deliveries?limit=100");
    loop {
        let list = time::until_within(Duration::from_mins(1), "the end of all deliveries", || {
            let page = page.clone();
            async move {
                let list = process.get(&page).await.expect(200).json();
                let over = |delivery: &Value| delivery["status"] == "delivered";
                list["deliveries"].as_array().unwrap().iter().all(over).then_some(list)
            }
        })
        .await;
        all.extend(list["deliveries"].as_array().unwrap().iter().cloned());
        let Some(next) = list["links"]["next"].as_str() else { return all };
        page = String::from(path_of(next));
    }
}

/// The operation that a message is about.
fn operation_of(arrival: &Arrival) -> String {
    let rest = arrival.id().strip_prefix("msg_").unwrap();
    rest.rsplit_once('_').unwrap().0.to_owned()
}

/// What arrived, by message.
fn by_message(arrivals: &[Arrival]) -> HashMap<&str, Vec<&Arrival>> {
    let mut by_message: HashMap<_, Vec<_>> = HashMap::new();
    for arrival in arrivals {
        by_message.entry(arrival.id()).or_default().push(arrival);
    }
    by_message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_of_a_sender_lose_no_event_and_change_no_message() {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    receiver.on("/hooks", Manner::status(204).slowly(ANSWERED_AFTER));
    let open = format!(
        "allow = [\"127.0.0.0/8\", \"::1/128\"]\nallow_http = true\nports = [{}]",
        receiver.address.port()
    );
    let lines = "delivery = \"at-least-once\"\nretry = { min = \"10ms\", max = \"100ms\" }";
    let setup = Setup::before(&upstream).set("webhooks", &open).route("POST /orders", lines);
    let mut process = setup.spawn().await;
    let subscription = subscribed(&process, &receiver).await;
    let accepted = Arc::new(Accepted::default());
    let (current, watching) = watch::channel(Some(process.public));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| time::spawn(client(watching.clone(), Arc::clone(&accepted))))
        .collect();
    drop(watching);
    for _ in 0..KILLS {
        let goal = accepted.count() + rng.random_range(1..12);
        let reached = || async { (accepted.count() >= goal).then_some(()) };
        time::until("more accepted operations", reached).await;
        time::pause(Duration::from_micros(rng.random_range(0..6_000))).await;
        process.kill().await;
        process = process.again().await;
        current.send_replace(Some(process.public));
    }
    current.send_replace(None);
    for client in clients {
        time::within("a client's end", client).await.unwrap();
    }
    let all = accepted.all();
    let untold = || {
        let told: HashSet<_> = receiver.arrivals().iter().map(operation_of).collect();
        all.iter().filter(|id| !told.contains(*id)).cloned().collect::<Vec<_>>()
    };
    let told = || async { untold().is_empty().then_some(()) };
    if time::looked_for(Duration::from_mins(2), told).await.is_none() {
        for id in untold() {
            let found = process.admin(get(format!("/-/operations/{id}/status"))).await;
            eprintln!("nobody was told of {}", found.text());
        }
        let page = format!("{subscription}/deliveries?state=pending&limit=100");
        panic!("these wait: {}", process.get(&page).await.text());
    }
    let deliveries = deliveries(&process, &subscription).await;
    let arrivals = receiver.arrivals();
    let by_message = by_message(&arrivals);
    let lost = deliveries
        .iter()
        .filter(|delivery| !by_message.contains_key(delivery["message"].as_str().unwrap()))
        .count();
    let changed = by_message
        .values()
        .filter(|same| same.iter().any(|arrival| arrival.body != same[0].body))
        .count();
    let doubled: usize = by_message.values().map(|same| same.len() - 1).sum();
    // An attempt whose end was written down is none that was cut off.
    let cut_off: u64 = deliveries
        .iter()
        .map(|delivery| {
            let recorded = delivery["attempts"].as_array().unwrap().len() as u64;
            delivery["attemptsBegun"].as_u64().unwrap() - recorded
        })
        .sum();
    println!(
        "kills: {KILLS} of a sender, accepted: {}, events: {}, lost: {lost}, changed messages: {changed}, \
         sent again: {doubled}, attempts cut off: {cut_off}",
        all.len(),
        deliveries.len(),
    );
    assert_eq!((lost, changed), (0, 0), "seed: {seed}");
    assert!(doubled as u64 <= cut_off, "{doubled} were sent again, {cut_off} were cut off");
    assert!(all.len() >= KILLS, "hardly any load: {}", all.len());
    assert!(cut_off > 0, "no kill met an attempt");
    assert_eq!(by_message.len(), deliveries.len(), "a message of no delivery");
}
