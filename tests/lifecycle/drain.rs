//! SIGTERM: no new work, a grace for running work, nothing lost or repeated.

use crate::support::client::EventStream;
use crate::support::gateway::{Process, order};
use crate::support::{Setup, Ticket, Upstream, get, post, time};

/// A process with one order held at the upstream, after a SIGTERM.
async fn draining(upstream: &Upstream, delivery: &str, grace: &str) -> (Process, Ticket) {
    upstream.hold("/orders");
    let process = Setup::before(upstream)
        .set("shutdown", &format!("grace = {grace:?}"))
        .route("POST /orders", &format!("delivery = {delivery:?}"))
        .spawn()
        .await;
    let ticket = process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    process.signal("TERM").await;
    (process, ticket)
}

#[tokio::test]
async fn what_runs_is_finished_within_the_grace() {
    let upstream = Upstream::start().await;
    let (mut process, ticket) = draining(&upstream, "at-most-once", "60s").await;
    time::until("readyz says no", || async {
        let ready = get("/readyz").send(process.admin).await;
        (ready.status == 503).then_some(())
    })
    .await;
    upstream.release("/orders");
    assert!(process.ended().await.success());
    let process = process.again().await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
    upstream.only();
}

#[tokio::test]
async fn without_anything_to_do_it_ends_at_once_and_well() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).spawn().await;
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    let mut process = process.again().await;
    process.signal("INT").await;
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn at_most_once_on_the_wire_at_the_end_of_the_grace_is_an_unknown_outcome() {
    let upstream = Upstream::start().await;
    let (mut process, ticket) = draining(&upstream, "at-most-once", "100ms").await;
    process.ended().await;
    upstream.release("/orders");
    let process = process.again().await;
    let document = process.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    upstream.only();
}

#[tokio::test]
async fn at_least_once_at_the_end_of_the_grace_is_handed_back_uncounted() {
    let upstream = Upstream::start().await;
    let (mut process, ticket) = draining(&upstream, "at-least-once", "100ms").await;
    process.ended().await;
    upstream.release("/orders");
    let process = process.again().await;
    let document = process.settled(&ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(document["resumes"], 1, "{document}");
    assert_eq!(document["rescues"], 0, "{document}");
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_second_signal_cuts() {
    let upstream = Upstream::start().await;
    let (mut process, ticket) = draining(&upstream, "at-least-once", "1h").await;
    time::until("draining", || async {
        let ready = get("/readyz").send(process.admin).await;
        (ready.status == 503).then_some(())
    })
    .await;
    process.signal("TERM").await;
    process.ended().await;
    upstream.release("/orders");
    let process = process.again().await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
}

#[tokio::test]
async fn the_drain_begins_nothing_that_was_still_queued() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let mut process = Setup::before(&upstream)
        .set("shutdown", "grace = \"60s\"")
        .set("upstreams.default", "max_in_flight = 1")
        .spawn()
        .await;
    let running = process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    let queued = process.accept(order()).await;
    process.signal("TERM").await;
    time::until("draining", || async {
        let ready = get("/readyz").send(process.admin).await;
        (ready.status == 503).then_some(())
    })
    .await;
    upstream.release("/orders");
    assert!(process.ended().await.success());
    upstream.only();
    let process = process.again().await;
    for ticket in [&running, &queued] {
        assert_eq!(process.settled(ticket).await["status"], "succeeded");
    }
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn clients_and_operators_are_answered_until_what_runs_has_ended() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let setup = Setup::before(&upstream)
        .set("shutdown", "grace = \"60s\"")
        .route("POST /orders", "mode = \"hybrid\"\nallow = [\"async\", \"sync\"]")
        .route("POST /sync", "mode = \"sync\"\nallow = [\"sync\"]");
    let mut process = setup.spawn().await;
    let ticket = process.accept(order().field("Prefer", "respond-async")).await;
    upstream.until_received("/orders", 1).await;
    process.signal("TERM").await;
    time::until("draining", || async {
        (get("/readyz").send(process.admin).await.status == 503).then_some(())
    })
    .await;
    process.admin(get("/livez")).await.expect(200);
    process.admin(get("/metrics")).await.expect(200);
    assert_eq!(process.document(&ticket).await["status"], "running");
    process.get("/anything").await.expect(200);

    // Accepted for the next start, without a wait that could bring nothing.
    let later = process.accept(order()).await;
    let refused = process.send(post("/sync")).await;
    assert_eq!(refused.expect_field("retry-after"), "1");
    refused.problem(503);
    assert_eq!(process.listed().await, 2);

    let address = process.public;
    let target = ticket.monitor.clone();
    let polling =
        time::spawn(async move { get(target).field("Prefer", "wait=30").try_send(address).await });
    upstream.release("/orders");
    assert_eq!(polling.await.unwrap().unwrap().status, 303);
    assert!(process.ended().await.success());
    let process = process.again().await;
    assert_eq!(process.settled(&later).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/orders").len(), 2);
}

#[tokio::test]
async fn whoever_waits_for_what_will_not_begin_any_more_does_not_hold_up_the_end() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream)
        .set("shutdown", "grace = \"1h\"")
        .set("queues.default", "paused = true")
        .spawn()
        .await;
    let ticket = process.post_order().await;
    let address = process.public;
    let monitor = get(&*ticket.monitor);
    let mut events = EventStream::open(address, monitor.clone()).await;
    assert_eq!(events.head.status, 200);
    let polling =
        time::spawn(async move { monitor.field("Prefer", "wait=45").send(address).await });
    let synchronous = order().field("Expect", "201-created");
    let waiting = time::spawn(async move { synchronous.send(address).await });
    time::until("two operations", || async { (process.listed().await == 2).then_some(()) }).await;
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    polling.await.unwrap().expect(202);
    waiting.await.unwrap().problem(424);
    events.rest().await;
}

#[tokio::test]
async fn readers_of_a_silent_stream_do_not_hold_up_the_end() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).set("shutdown", "grace = \"1h\"").spawn().await;
    let ticket = process.accept(order().field("Operation-Delay", "3600")).await;
    let mut stream = EventStream::open(process.public, get(ticket.at("events"))).await;
    time::within("an event", stream.next()).await.expect("the accepted event");
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    assert!(stream.rest().await.is_empty());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_without_ado() {
    let upstream = Upstream::start().await;
    let (mut process, _) = draining(&upstream, "at-most-once", "60s").await;
    time::until("readyz says no", || async {
        let ready = get("/readyz").send(process.admin).await;
        (ready.status == 503).then_some(())
    })
    .await;
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    // What it said last is read a moment after its end.
    time::until("it says so", || async {
        process.stderr().contains("a second signal").then_some(())
    })
    .await;
    assert!(!process.stderr().contains("panic"), "{}", process.stderr());
}

#[tokio::test]
async fn a_hang_up_ends_nothing_that_runs() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let mut process = Setup::before(&upstream).spawn().await;
    let ticket = process.post_order().await;
    upstream.until_received("/orders", 1).await;
    process.signal("HUP").await;
    time::until("it says so", || async {
        process.stderr().contains("SIGHUP changes nothing").then_some(())
    })
    .await;
    upstream.release("/orders");
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
    process.signal("TERM").await;
    assert!(process.ended().await.success());
}
