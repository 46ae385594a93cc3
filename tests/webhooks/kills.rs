//! A hundred `kill -9` of a gateway that sends, under load: every event reaches its
//! receiver, always as the same message.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use super::delivery_listing::{Told, open_to, subscribed, until_told};
use crate::support::gateway::order;
use crate::support::{Manner, Receiver, Setup, Ticket, Upstream, time};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_of_a_sender_lose_no_event_and_change_no_message() {
    let seed: u64 = rand::random();
    println!("seed: {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    receiver.on("/hooks", Manner::status(204).slowly(ANSWERED_AFTER));
    let lines = "delivery = \"at-least-once\"\nretry = { min = \"10ms\", max = \"100ms\" }";
    let setup =
        Setup::before(&upstream).set("webhooks", &open_to(&receiver)).route("POST /orders", lines);
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
    until_told(&process, &subscription, &receiver, &all).await;
    let told = Told::of(&process, &subscription, &receiver).await;
    println!("kills: {KILLS} of a sender, accepted: {}, {told}", all.len());
    told.assert_kept();
    assert!(all.len() >= KILLS, "hardly any load: {}", all.len());
    assert!(told.cut_off > 0, "no kill met an attempt");
}
