//! Limits over all nodes of a fleet.

use std::time::Duration;

use cloakroom_runtime::clock::Clock;

use super::roles::named;
use super::{Fleet, LEASE};
use crate::support::gateway::Process;
use crate::support::time::{pause, until, until_within};
use crate::support::{Answer, Setup, Ticket, Upstream, get, post};

/// A lease, and what finding out and asking may take beyond it on a busy machine.
const RETURNED: Duration = Duration::from_secs(LEASE + 18);

fn limited(upstream: &Upstream, of_upstream: &str, of_queue: &str) -> Fleet {
    let fleet = Fleet::before(upstream);
    let setup = fleet.setup.set("upstreams.default", of_upstream).set("queues.reports", of_queue);
    Fleet { setup }
}

async fn accept(front: &Process, path: &str, count: usize) -> Vec<Ticket> {
    let mut tickets = Vec::new();
    for _ in 0..count {
        tickets.push(front.accept(post(path)).await);
    }
    tickets
}

async fn all_succeed(front: &Process, tickets: &[Ticket]) {
    for ticket in tickets {
        until_within(RETURNED * 2, "an end", || async {
            (front.document(ticket).await["status"] == "succeeded").then_some(())
        })
        .await;
    }
}

async fn beaten(front: &Process, names: &[&str]) {
    for name in names {
        until("its beats", || async {
            named(front, name).await.filter(|node| node["state"] == "alive")
        })
        .await;
    }
}

/// How often a node has asked for permits.
async fn asks(node: &Process) -> u64 {
    let metrics = node.admin(get("/metrics")).await.expect(200).text();
    let mut lines = metrics.lines();
    let asked = lines.find_map(|line| line.strip_prefix("cloakroom_permits_asked_total "));
    asked.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn who_is_alone_asks_once_and_has_the_whole_of_every_limit() {
    let upstream = Upstream::start().await;
    let fleet = limited(&upstream, "max_in_flight = 5\nrate = \"1000/s\"", "rate = \"1000/s\"");
    let alone = fleet.both().await;
    upstream.hold("/reports");
    let tickets = accept(&alone, "/reports", 9).await;
    upstream.until_received("/reports", 5).await;
    pause(Duration::from_secs(LEASE)).await;
    assert_eq!((upstream.received_at("/reports").len(), asks(&alone).await), (5, 1));
    upstream.release("/reports");
    all_succeed(&alone, &tickets).await;
    assert_eq!((upstream.most_at_once(), asks(&alone).await), (5, 1));
}

#[tokio::test]
async fn three_workers_call_an_upstream_no_more_often_at_once_than_it_may_be_called() {
    let upstream = Upstream::start().await;
    upstream.on("/again", Answer::status(201).slowly(Duration::from_millis(3)));
    let fleet = limited(&upstream, "max_in_flight = 5", "");
    let front = fleet.front().await;
    let names = ["one", "two", "three"];
    let mut workers = Vec::new();
    for name in names {
        workers.push(fleet.worker(&["--name", name]).await);
    }
    beaten(&front, &names).await;
    let tickets = accept(&front, "/again", 300).await;
    all_succeed(&front, &tickets).await;
    let mut asked = 0;
    for worker in &workers {
        asked += asks(worker).await;
    }
    println!("300 operations, {} at once at most, {asked} asks", upstream.most_at_once());
    assert!(upstream.most_at_once() <= 5, "{}", upstream.most_at_once());
    assert_eq!(upstream.received_at("/again").len(), 300);
}

#[tokio::test]
async fn one_worker_that_alone_has_work_gets_all_that_the_others_have_no_use_for() {
    let upstream = Upstream::start().await;
    let fleet = limited(&upstream, "max_in_flight = 5", "max_in_flight = 4");
    let front = fleet.front().await;
    let mut workers = Vec::new();
    for (name, queues) in [("idle", "default"), ("idle too", "default"), ("busy", "reports")] {
        workers.push(fleet.worker(&["--name", name, "--queues", queues]).await);
    }
    beaten(&front, &["idle", "idle too", "busy"]).await;
    upstream.hold("/reports");
    let reports = accept(&front, "/reports", 9).await;
    upstream.until_received("/reports", 4).await;
    // One is left of the upstream's five, for the node that wants it.
    upstream.hold("/again");
    let others = accept(&front, "/again", 3).await;
    upstream.until_received("/again", 1).await;
    pause(Duration::from_secs(1)).await;
    assert_eq!(
        (upstream.received_at("/reports").len(), upstream.received_at("/again").len()),
        (4, 1)
    );
    // Operators see what runs on all of them.
    let standing = front.admin(get("/-/queues")).await.expect(200).json();
    let reports_queue = standing["queues"].as_array().unwrap().iter();
    let running = reports_queue.filter(|it| it["name"] == "reports").map(|it| &it["running"]);
    assert!(running.eq([4]), "{standing}");
    upstream.release("/reports");
    upstream.release("/again");
    all_succeed(&front, &reports).await;
    all_succeed(&front, &others).await;
    assert!(upstream.most_at_once() <= 5, "{}", upstream.most_at_once());
}

#[tokio::test]
async fn three_workers_begin_no_more_in_a_second_than_the_rate_says() {
    let upstream = Upstream::start().await;
    let fleet = limited(&upstream, "", "rate = \"10/s\"");
    let front = fleet.front().await;
    let names = ["one", "two", "three"];
    let mut workers = Vec::new();
    for name in names {
        workers.push(fleet.worker(&["--name", name]).await);
    }
    beaten(&front, &names).await;
    let clock = Clock::system();
    let began = clock.elapsed();
    let passed = || clock.elapsed().saturating_sub(began);
    let tickets = accept(&front, "/reports", 60).await;
    until_within(RETURNED * 2, "all to arrive", || async {
        let passed = passed().as_secs_f64();
        let arrived = upstream.received_at("/reports").len();
        assert!(arrived as f64 <= 10.0 + 10.0 * passed + 1.0, "{arrived} after {passed} s");
        (arrived == 60).then_some(())
    })
    .await;
    println!("60 operations at 10/s took {:?}", passed());
    assert!(passed() >= Duration::from_millis(4_500));
    all_succeed(&front, &tickets).await;
}

#[tokio::test]
async fn what_a_killed_worker_held_is_there_again_within_the_lease() {
    let upstream = Upstream::start().await;
    let fleet = limited(&upstream, "max_in_flight = 2", "");
    let front = fleet.front().await;
    let mut dies = fleet.worker(&["--name", "dies"]).await;
    upstream.hold("/once");
    accept(&front, "/once", 2).await;
    upstream.until_received("/once", 2).await;
    let _lives = fleet.worker(&["--name", "lives"]).await;
    beaten(&front, &["lives"]).await;
    let waiting = accept(&front, "/again", 4).await;
    pause(Duration::from_secs(1)).await;
    assert_eq!(upstream.received_at("/again").len(), 0, "both permits are out");
    let clock = Clock::system();
    let killed = clock.elapsed();
    dies.kill().await;
    until_within(RETURNED, "its permits", || async {
        (!upstream.received_at("/again").is_empty()).then_some(())
    })
    .await;
    let waited = clock.elapsed().saturating_sub(killed);
    println!("permits of a killed worker were back after {waited:?}");
    assert!(waited >= Duration::from_secs(LEASE) / 2, "{waited:?}: it might have lived");
    all_succeed(&front, &waiting).await;
    upstream.release("/once");
}

#[tokio::test]
async fn a_queue_that_is_full_is_full_on_every_front() {
    let upstream = Upstream::start().await;
    let fleet = limited(&upstream, "", "max_depth = 4");
    let (one, other) = (fleet.front().await, fleet.front().await);
    let mut tickets = accept(&one, "/reports", 2).await;
    tickets.extend(accept(&other, "/reports", 2).await);
    let depth = |standing: &serde_json::Value| {
        let queues = standing["queues"].as_array().unwrap().clone();
        queues.iter().find(|it| it["name"] == "reports").unwrap()["depth"].as_u64().unwrap()
    };
    for front in [&one, &other] {
        until("it to know of the other's", || async {
            let standing = front.admin(get("/-/queues")).await.expect(200).json();
            (depth(&standing) == 4).then_some(())
        })
        .await;
        let answer = front.send(post("/reports")).await.expect(503);
        answer.expect_field("retry-after");
    }
    let _worker = fleet.worker(&[]).await;
    all_succeed(&one, &tickets).await;
    until("an empty queue on both", || async {
        let mut depths = Vec::new();
        for front in [&one, &other] {
            depths.push(depth(&front.admin(get("/-/queues")).await.expect(200).json()));
        }
        (depths == [0, 0]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_stores_too_much_is_full_on_every_front_until_a_worker_has_ended_some() {
    let upstream = Upstream::start().await;
    let fleet = limited(&upstream, "", "max_stored = \"4KiB\"");
    let (one, other) = (fleet.front().await, fleet.front().await);
    let large = || post("/reports").body("text/plain", vec![b'x'; 1_500]);
    for front in [&one, &other] {
        front.accept(large()).await;
    }
    for front in [&one, &other] {
        until("it to know of the other's", || async {
            let answer = front.send(large()).await;
            let refused = (answer.status == 503).then(|| answer.problem(503))?;
            refused["detail"].as_str()?.contains("max_stored").then_some(())
        })
        .await;
    }
    let _worker = fleet.worker(&[]).await;
    until("nothing that is stored, on both", || async {
        for front in [&one, &other] {
            let standing = front.admin(get("/-/queues")).await.expect(200).json();
            let queues = standing["queues"].as_array()?;
            let reports = queues.iter().find(|it| it["name"] == "reports")?;
            (reports["stored"] == 0).then_some(())?;
        }
        Some(())
    })
    .await;
    one.accept(large()).await;
}

#[tokio::test]
async fn a_worker_serves_queues_that_are_new_in_another_node_s_configuration() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let _worker = fleet.worker(&[]).await;
    let new: Setup = fleet.setup.clone().set("queues.new", "");
    let front = new.route("POST /new", "queue = \"new\"");
    let front = Fleet { setup: front }.front().await;
    let tickets = accept(&front, "/new", 3).await;
    all_succeed(&front, &tickets).await;
}
