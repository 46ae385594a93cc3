//! The order of queues: priority and age.

use std::time::Duration;

use crate::support::{Answer, Gateway, Setup, Upstream, get, post};

/// A gateway with a single slot, which is taken, and a plain and an urgent queue.
async fn with_one_slot(upstream: &Upstream, queues: &str) -> Gateway {
    upstream.hold("/first");
    let setup = Setup::before(upstream)
        .set("engine", "slots = 1")
        .set("queues.urgent", queues)
        .route("POST /first", "")
        .route("POST /plain", "")
        .route("POST /urgent", "queue = \"urgent\"")
        .route("POST /asked", "mode = \"hybrid\"\nsync_wait = \"45s\"");
    let gateway = setup.start().await;
    gateway.accept(post("/first")).await;
    upstream.until_received("/first", 1).await;
    gateway
}

/// Where the requests behind the first one went, in the order in which they arrived.
async fn order(upstream: &Upstream, paths: &[&str]) -> Vec<String> {
    upstream.release("/first");
    for path in paths {
        upstream.until_received(path, 1).await;
    }
    upstream.received().iter().skip(1).map(|request| request.path().to_owned()).collect()
}

#[tokio::test]
async fn the_queue_with_the_higher_priority_goes_first() {
    let upstream = Upstream::start().await;
    let gateway = with_one_slot(&upstream, "priority = 10").await;
    gateway.accept(post("/plain")).await;
    gateway.accept(post("/urgent")).await;
    let order = order(&upstream, &["/plain", "/urgent"]).await;
    assert_eq!(order, ["/urgent", "/plain"]);
}

#[tokio::test]
async fn a_queue_that_has_waited_too_often_too_long_goes_before_a_higher_one() {
    let upstream = Upstream::start().await;
    let gateway = with_one_slot(&upstream, "priority = 10").await;
    gateway.accept(post("/plain")).await;
    // Ten times what may be expected of the plain one.
    gateway.advance(601);
    gateway.accept(post("/urgent")).await;
    let order = order(&upstream, &["/plain", "/urgent"]).await;
    assert_eq!(order, ["/plain", "/urgent"]);
}

#[tokio::test]
async fn of_equal_priority_the_queue_that_may_wait_less_goes_first() {
    let upstream = Upstream::start().await;
    let gateway = with_one_slot(&upstream, "target_wait = \"1s\"").await;
    gateway.accept(post("/plain")).await;
    gateway.accept(post("/urgent")).await;
    gateway.advance(3);
    let order = order(&upstream, &["/plain", "/urgent"]).await;
    assert_eq!(order, ["/urgent", "/plain"]);
}

#[tokio::test]
async fn whoever_has_a_client_on_the_line_goes_before_any_priority() {
    let upstream = Upstream::start().await;
    let gateway = with_one_slot(&upstream, "priority = 100").await;
    gateway.accept(post("/urgent")).await;
    let public = gateway.public;
    let asking = crate::support::time::spawn(async move {
        post("/asked").field("Expect", "201-created").send(public).await
    });
    let both_wait = || async {
        let list = gateway.get("/-/operations?status=queued").await.expect(200).json();
        (crate::support::gateway::operations_of(&list).len() == 2).then_some(())
    };
    crate::support::time::until("both to wait", both_wait).await;
    let order = order(&upstream, &["/asked", "/urgent"]).await;
    assert_eq!(order, ["/asked", "/urgent"]);
    asking.await.unwrap().expect(201);
}

/// Synchronous clients of four slots, more of them than those have room for, each of which asks
/// again as soon as it is answered.
async fn with_busy_clients(upstream: &Upstream, clients: usize) -> Gateway {
    upstream.on("/asked", Answer::status(200).slowly(Duration::from_millis(15)));
    let setup = Setup::before(upstream)
        .set("engine", "slots = 4")
        .set("queues.low", "priority = -100")
        .route("POST /plain", "queue = \"low\"")
        .route("POST /asked", "mode = \"sync\"");
    let gateway = setup.start().await;
    let public = gateway.public;
    for _ in 0..clients {
        crate::support::time::spawn(async move {
            loop {
                post("/asked").send(public).await.expect(200);
            }
        });
    }
    upstream.until_received("/asked", 2 * clients).await;
    gateway
}

#[tokio::test]
async fn five_of_a_queue_begin_within_ten_seconds_though_clients_always_wait() {
    let upstream = Upstream::start().await;
    let gateway = with_busy_clients(&upstream, 12).await;
    for _ in 0..8 {
        gateway.accept(post("/plain")).await;
    }
    for _ in 0..10 {
        let before = upstream.received_at("/asked").len();
        gateway.advance(1);
        upstream.until_received("/asked", before + 24).await;
    }
    let begun = upstream.received_at("/plain").len();
    assert!(begun >= 5, "{begun} of the queue beside {}", upstream.received_at("/asked").len());
}

#[tokio::test]
async fn a_paused_queue_holds_up_no_other() {
    let upstream = Upstream::start().await;
    let gateway = with_one_slot(&upstream, "priority = 100\npaused = true").await;
    let urgent = gateway.accept(post("/urgent")).await;
    gateway.accept(post("/plain")).await;
    let order = order(&upstream, &["/plain"]).await;
    assert_eq!(order, ["/plain"]);
    assert_eq!(gateway.document(&urgent).await["status"], "queued");
    gateway.admin(get("/readyz")).await.expect(200);
}
