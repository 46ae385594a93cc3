//! Slow, dead and endless receivers: none of them delays another receiver.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::json;

use super::scene::open_to;
use crate::support::gateway::{Process, order};
use crate::support::{Manner, Receiver, Setup, Upstream, post, time};

/// Healthy receivers, and the events that each of them is told of in a round.
const HEALTHY: usize = 50;
const EVENTS: usize = 40;
/// Deliveries that wait for the bad one.
const WAITING: usize = 10_000;

async fn subscribed(process: &Process, url: &str, route: &str) {
    let wanted = json!({ "url": url, "events": ["operation.succeeded"], "routes": [route] });
    process.send(post("/-/webhooks").json(&wanted)).await.expect(201);
}

struct Scene {
    _upstream: Upstream,
    bad: Receiver,
    healthy: Receiver,
    process: Process,
}

impl Scene {
    async fn set(manner: Manner) -> Self {
        let upstream = Upstream::start().await;
        let (bad, healthy) = (Receiver::start().await, Receiver::start().await);
        bad.on("/bad", manner);
        let open = format!(
            "allow = [\"127.0.0.0/8\", \"::1/128\"]\nallow_http = true\nports = [{}, {}]\n\
             max_subscriptions = 100",
            bad.address.port(),
            healthy.address.port()
        );
        let process = Setup::before(&upstream)
            .set("webhooks", &open)
            .route("POST /orders", "name = \"orders\"")
            .route("POST /refunds", "name = \"refunds\"")
            .spawn()
            .await;
        for number in 0..HEALTHY {
            subscribed(&process, &healthy.url(&format!("/{number}")), "orders").await;
        }
        Self { _upstream: upstream, bad, healthy, process }
    }

    /// Carries operations out one after the other, and says how long it took from each
    /// acceptance until the last of the healthy ones was told, the longest last.
    async fn round(&self) -> Vec<Duration> {
        let mut took = Vec::with_capacity(EVENTS);
        for _ in 0..EVENTS {
            let before = self.healthy.count();
            let begun: Instant = time::instant();
            self.process.accept(order()).await;
            self.healthy.until_arrived(before + HEALTHY).await;
            took.push(begun.elapsed());
        }
        took.sort_unstable();
        took
    }

    /// Makes as many deliveries wait for the bad one as are to wait.
    async fn burden(&self) {
        subscribed(&self.process, &self.bad.url("/bad"), "refunds").await;
        let clients = (0..8).map(|_| async {
            for _ in 0..WAITING / 8 {
                self.process.send(post("/refunds").json(&json!({}))).await.expect(202);
            }
        });
        futures_util::future::join_all(clients).await;
        let connected = || async { (self.bad.connections() > 0).then_some(()) };
        time::until("a delivery to the bad one", connected).await;
    }
}

fn p99(took: &[Duration]) -> Duration {
    took[took.len() * 99 / 100]
}

async fn delays_nobody(what: &str, manner: Manner) {
    let scene = Scene::set(manner).await;
    scene.round().await;
    let without = scene.round().await;
    scene.burden().await;
    scene.round().await;
    let beside = scene.round().await;
    let (without, beside) = (p99(&without), p99(&beside));
    println!(
        "counts: {HEALTHY} healthy receivers beside {WAITING} deliveries for one that {what}: \
         p99 {beside:?}, without it {without:?}"
    );
    // A few milliseconds are the machine's.
    assert!(beside <= without * 2 + Duration::from_millis(20), "{beside:?} and {without:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_never_answers_delays_nobody_else() {
    delays_nobody("never answers", Manner::Silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_drips_delays_nobody_else() {
    delays_nobody("drips", Manner::Drip(500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_whose_answer_never_ends_delays_nobody_else() {
    delays_nobody("never ends its answer", Manner::Endless(500)).await;
}

/// Origins at which connections are accepted and nothing is ever said.
struct Dead {
    listeners: Vec<TcpListener>,
}

impl Dead {
    /// Three hundred of them.
    fn raise() -> Self {
        let first = TcpListener::bind("127.1.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let others = (1..300u16).map(|number| {
            let [block, host] = (number + 1).to_be_bytes();
            TcpListener::bind(SocketAddr::from(([127, 1, block, host], port))).unwrap()
        });
        Self { listeners: std::iter::once(first).chain(others).collect() }
    }

    fn port(&self) -> u16 {
        self.listeners[0].local_addr().unwrap().port()
    }

    fn urls(&self) -> impl Iterator<Item = String> {
        self.listeners.iter().map(|dead| format!("http://{}/", dead.local_addr().unwrap()))
    }
}

/// A gateway that calls anybody back, among them the dead.
async fn calling_back(upstream: &Upstream, dead: &Dead, healthy: &Receiver) -> Process {
    let ports = [dead.port(), healthy.address.port()];
    Setup::before(upstream)
        .set("webhooks", &open_to(&ports))
        .route("POST /orders", "callbacks = \"any\"")
        .spawn()
        .await
}

/// How long the first callback to a new receiver takes.
async fn first_told(process: &Process, healthy: &Receiver) -> Duration {
    let begun: Instant = time::instant();
    let url = healthy.url("/fresh");
    process.send(order().field("Callback-Url", &*url)).await.expect(202);
    healthy.until_arrived(1).await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_origins_that_never_answer_delay_no_receiver_that_is_new() {
    let (upstream, dead) = (Upstream::start().await, Dead::raise());
    let mut told = Vec::new();
    for burdened in [false, true] {
        let healthy = Receiver::start().await;
        let process = calling_back(&upstream, &dead, &healthy).await;
        for url in dead.urls().filter(|_| burdened) {
            process.send(order().field("Callback-Url", &*url)).await.expect(202);
        }
        told.push(first_told(&process, &healthy).await);
    }
    println!(
        "counts: a new receiver behind {} origins that never answer: told after {:?}, without them {:?}",
        dead.listeners.len(),
        told[1],
        told[0]
    );
    assert!(told[1] < Duration::from_secs(2), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_answers_with_a_thousand_deliveries_delays_no_receiver_that_is_new() {
    let (upstream, dead) = (Upstream::start().await, Dead::raise());
    let healthy = Receiver::start().await;
    let process = calling_back(&upstream, &dead, &healthy).await;
    let url = dead.urls().next().unwrap();
    let clients = (0..8).map(|_| async {
        for _ in 0..1000 / 8 {
            process.send(order().field("Callback-Url", &*url)).await.expect(202);
        }
    });
    futures_util::future::join_all(clients).await;
    let told = first_told(&process, &healthy).await;
    println!(
        "counts: a new receiver beside 1000 deliveries for one that never answers: told after {told:?}"
    );
    assert!(told < Duration::from_secs(2), "{told:?}");
}
