//! One receiver that is slow, dead or endless delays nobody else.

use std::time::{Duration, Instant};

use serde_json::json;

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
