//! Limits of a queue: attempts at once, and starts in a period.

use std::cell::Cell;
use std::time::Duration;

use serde_json::Value;

use crate::support::gateway::{is_final, operations_of};
use crate::support::postgres::cluster;
use crate::support::{Answer, Gateway, Request, Setup, Ticket, Upstream, post, time};

const SLOW: Duration = Duration::from_millis(5);

async fn accept(gateway: &Gateway, path: &str, count: usize) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for _ in 0..count {
        tickets.push(gateway.accept(post(path)).await);
    }
    tickets
}

#[tokio::test]
async fn no_more_of_a_queue_run_at_once_than_it_may_over_all_its_upstreams() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let gateway = Setup::before(&one)
        .set("upstreams.other", &format!("url = {:?}", two.url()))
        .set("queues.narrow", "max_in_flight = 3")
        .route("POST /orders", "upstream = \"default\"\nqueue = \"narrow\"")
        .route("POST /alarms", "upstream = \"other\"\nqueue = \"narrow\"")
        .start()
        .await;
    one.on("/orders", Answer::status(201).slowly(SLOW));
    two.on("/alarms", Answer::status(201).slowly(SLOW));
    one.hold("/orders");
    two.hold("/alarms");
    let mut tickets = Vec::new();
    for _ in 0..40 {
        tickets.extend(accept(&gateway, "/orders", 1).await);
        tickets.extend(accept(&gateway, "/alarms", 1).await);
    }
    let arrived = || one.received().len() + two.received().len();
    time::until("three to arrive", || async { (arrived() == 3).then_some(()) }).await;
    let running = gateway.get("/-/operations?status=running").await.expect(200).json();
    assert_eq!((operations_of(&running).len(), arrived()), (3, 3));
    one.release("/orders");
    two.release("/alarms");
    for ticket in &tickets {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
    let most = (one.most_at_once(), two.most_at_once());
    assert!(most.0 <= 3 && most.1 <= 3, "{most:?}");
}

#[tokio::test]
async fn a_queue_has_its_limit_and_others_take_the_rest() {
    let upstream = Upstream::start().await;
    upstream.hold("/reports");
    let gateway = Setup::before(&upstream)
        .set("queues.reports", "max_in_flight = 3\npriority = 50")
        .route("POST /reports", "queue = \"reports\"")
        .route("POST /orders", "")
        .start()
        .await;
    let reports = accept(&gateway, "/reports", 10).await;
    upstream.until_received("/reports", 3).await;
    for ticket in accept(&gateway, "/orders", 5).await {
        assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    }
    assert_eq!(upstream.received_at("/reports").len(), 3);
    upstream.release("/reports");
    for ticket in &reports {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
    assert!(upstream.most_at_once() <= 4, "{}", upstream.most_at_once());
}

#[tokio::test]
async fn a_start_goes_on_with_what_the_former_one_left_of_a_rate() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set("queues.default", "rate = \"2/s\"");
    let gateway = setup.start().await;
    for ticket in accept(&gateway, "/orders", 2).await {
        assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    }
    let gateway = gateway.restart().await;
    let tickets = accept(&gateway, "/orders", 2).await;
    for ticket in &tickets {
        assert_eq!(gateway.document(ticket).await["status"], "queued");
    }
    gateway.advance(1);
    for ticket in &tickets {
        assert_eq!(gateway.settled(ticket).await["status"], "succeeded");
    }
}

/// Accepts many at once, then lets second after second pass until the last has arrived; at
/// no time have more arrived than five a second and five besides.
async fn keeps_to_five_a_second(setup: Setup, upstream: &Upstream, paths: &[&str]) {
    let gateway = setup.start().await;
    let mut tickets = Vec::new();
    for _ in 0..20 {
        for path in paths {
            tickets.extend(accept(&gateway, path, 1).await);
        }
    }
    let mut seconds = 0;
    for ticket in &tickets {
        gateway
            .while_stepping(1, "the last to arrive", || {
                let arrived = upstream.received().len();
                assert!(arrived <= 5 + 5 * seconds, "{arrived} in {seconds} s");
                seconds += 1;
                async { (gateway.document(ticket).await["status"] == "succeeded").then_some(()) }
            })
            .await;
        // Looked, and did not step.
        seconds -= 1;
    }
    assert!(seconds + 1 >= tickets.len() / 5 - 1, "{seconds}");
    assert_eq!(upstream.received().len(), tickets.len());
}

#[tokio::test]
async fn no_more_of_a_queue_begin_in_a_second_than_its_rate_says() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream)
        .set("queues.slow", "rate = \"5/s\"")
        .route("POST /orders", "queue = \"slow\"");
    keeps_to_five_a_second(setup, &upstream, &["/orders"]).await;
}

#[tokio::test]
async fn queues_share_the_rate_of_their_upstream() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream)
        .set("upstreams.default", "rate = \"5/s\"")
        .set("queues.urgent", "priority = 9")
        .route("POST /orders", "")
        .route("POST /alarms", "queue = \"urgent\"");
    keeps_to_five_a_second(setup, &upstream, &["/orders", "/alarms"]).await;
}

#[tokio::test]
async fn a_rate_makes_nobody_wait_who_is_not_subject_to_it() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("queues.rare", "rate = \"1/h\"\npriority = 100")
        .route("POST /reports", "queue = \"rare\"")
        .route("POST /orders", "")
        .start()
        .await;
    let reports = accept(&gateway, "/reports", 3).await;
    for ticket in accept(&gateway, "/orders", 20).await {
        assert_eq!(gateway.settled(&ticket).await["status"], "succeeded");
    }
    assert_eq!(gateway.settled(&reports[0]).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/reports").len(), 1);
    assert_eq!(gateway.document(&reports[1]).await["attempts"], 0);
}

#[tokio::test]
async fn what_waits_behind_a_limit_ends_at_its_deadline() {
    let upstream = Upstream::start().await;
    upstream.hold("/reports");
    let gateway = Setup::before(&upstream)
        .set("queues.narrow", "max_in_flight = 1")
        .route("POST /reports", "queue = \"narrow\"\ndeadline = \"1h\"\ntimeout = \"1h\"")
        .start()
        .await;
    gateway.accept(post("/reports")).await;
    upstream.until_received("/reports", 1).await;
    let ticket = gateway.accept(post("/reports").field("Operation-Deadline", "30")).await;
    assert_eq!(gateway.document(&ticket).await["status"], "queued");
    let document = gateway.timed_out_by_steps_of(1, &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert_eq!(document["attempts"], 0);
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn what_waits_for_a_serial_key_ends_at_its_deadline() {
    let upstream = Upstream::start().await;
    upstream.hold("/reports");
    let keyed = "serial_key = \"header:Customer-Id\"\ndeadline = \"1h\"\ntimeout = \"1h\"";
    let gateway = Setup::before(&upstream).route("POST /reports", keyed).start().await;
    let report = || post("/reports").field("Customer-Id", "c1");
    let holder = gateway.accept(report()).await;
    upstream.until_received("/reports", 1).await;
    let ticket = gateway.accept(report().field("Operation-Deadline", "30")).await;
    assert_eq!(gateway.document(&ticket).await["waitingFor"], "serial-key");
    let document = gateway.timed_out_by_steps_of(10, &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert_eq!(gateway.document(&holder).await["status"], "running");
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_deadline_counts_from_the_time_before_which_an_operation_is_not_to_begin() {
    let upstream = Upstream::start().await;
    upstream.hold("/reports");
    let gateway = Setup::before(&upstream)
        .set("queues.narrow", "max_in_flight = 1")
        .route("POST /reports", "queue = \"narrow\"\ndeadline = \"1h\"\ntimeout = \"1h\"")
        .start()
        .await;
    gateway.accept(post("/reports")).await;
    upstream.until_received("/reports", 1).await;
    let delayed =
        post("/reports").field("Operation-Delay", "100").field("Operation-Deadline", "30");
    let ticket = gateway.accept(delayed).await;
    let undelayed = gateway.accept(post("/reports").field("Operation-Deadline", "120")).await;
    // It has ended, and the delayed one has not: they are looked at in one go.
    gateway.advance(119);
    let ended = ended_within(&gateway, Duration::from_secs(9), &undelayed).await;
    assert_eq!(ended["error"]["code"], "deadline-exceeded");
    assert_eq!(gateway.document(&ticket).await["status"], "queued");
    let document = gateway.timed_out_by_steps_of(1, &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert_eq!(
        (&document["attempts"], &document["startedAt"]),
        (&0.into(), &serde_json::Value::Null)
    );
}

#[tokio::test]
async fn what_expires_when_its_turn_comes_has_no_attempt_and_no_start() {
    let upstream = Upstream::start().await;
    upstream.hold("/reports");
    let gateway = Setup::before(&upstream)
        .set("engine", "slots = 1")
        .route("POST /reports", "deadline = \"1h\"\ntimeout = \"1h\"")
        .start()
        .await;
    gateway.accept(post("/reports")).await;
    upstream.until_received("/reports", 1).await;
    let ticket = gateway.accept(post("/reports").field("Operation-Deadline", "3")).await;
    // It ends when its turn comes, or when its lane is looked through, whichever comes first.
    gateway.advance(4);
    upstream.release("/reports");
    let document = gateway.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert_eq!(
        (&document["attempts"], &document["startedAt"]),
        (&0.into(), &serde_json::Value::Null)
    );
    assert_eq!(upstream.received().len(), 1);
    let events = gateway.get(&ticket.at("events")).await.expect(200).json();
    assert!(!events.to_string().contains("started"), "{events}");
}

/// Moves the clock in small steps, by `limit` in all, until the operation is final. The loop that ends it
/// may be about to sleep when the clock moves, and what moves during a look makes it rest for fifty times
/// as long: so each step is followed by several looks, which take longer than that one.
async fn ended_within(gateway: &Gateway, limit: Duration, ticket: &Ticket) -> Value {
    let (begun, looks) = (gateway.clock.now(), Cell::new(0));
    time::until("its deadline", || async {
        let document = Some(gateway.document(ticket).await).filter(is_final);
        looks.set(looks.get() + 1);
        let goes_on = gateway.clock.now().since(begun) < limit;
        if document.is_none() && goes_on && looks.get() % 3 == 0 {
            gateway.clock.advance(Duration::from_millis(20));
        }
        document
    })
    .await
}

/// A deadline of one second, in a queue that does not begin it, ends soon after.
async fn ends_in_time(gateway: &Gateway, request: Request) {
    let ticket = gateway.accept(request.field("Operation-Deadline", "1")).await;
    let document = ended_within(gateway, Duration::from_secs(4), &ticket).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    assert_eq!(document["attempts"], 0, "{document}");
}

/// A paused queue, one that is full, and one that has used up its rate, before `/asleep`, `/busy` and
/// `/rare`.
fn where_nothing_begins(upstream: &Upstream) -> Setup {
    upstream.hold("/busy");
    Setup::before(upstream)
        .set("queues.asleep", "paused = true")
        .set("queues.narrow", "max_in_flight = 1")
        .set("queues.rare", "rate = \"1/h\"")
        .route("POST /asleep", "queue = \"asleep\"")
        .route("POST /busy", "queue = \"narrow\"")
        .route("POST /rare", "queue = \"rare\"")
}

/// Deadlines end in time in all three. What nodes share is granted with their beats, so the clock moves
/// until the first operations have used up the limits.
async fn end_in_time_where_nothing_begins(upstream: &Upstream, gateway: &Gateway) {
    ends_in_time(gateway, post("/asleep")).await;
    let busy = gateway.accept(post("/busy")).await;
    let arrived = || async { (upstream.received_at("/busy").len() == 1).then_some(()) };
    gateway.while_stepping(1, "the first to arrive", arrived).await;
    ends_in_time(gateway, post("/busy")).await;
    let first = gateway.accept(post("/rare")).await;
    assert_eq!(gateway.settled_by_steps_of(1, &first).await["status"], "succeeded");
    ends_in_time(gateway, post("/rare")).await;
    upstream.release("/busy");
    assert_eq!(gateway.settled(&busy).await["status"], "succeeded");
}

#[tokio::test]
async fn a_deadline_of_a_second_ends_in_time_where_nothing_begins() {
    let upstream = Upstream::start().await;
    let gateway = where_nothing_begins(&upstream).start().await;
    end_in_time_where_nothing_begins(&upstream, &gateway).await;
}

#[tokio::test]
async fn a_deadline_of_a_second_ends_in_time_on_a_database_too() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let gateway = where_nothing_begins(&upstream).on(&database).start().await;
    end_in_time_where_nothing_begins(&upstream, &gateway).await;
}
