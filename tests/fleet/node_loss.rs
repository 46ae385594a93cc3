//! Nodes that die, stand still or lose their database.

use std::time::Duration;

use super::roles::named;
use super::{Fleet, LEASE};
use crate::support::gateway::Process;
use crate::support::postgres::Cluster;
use crate::support::time::{pause, until, until_within};
use crate::support::{Ticket, Upstream, post};

/// A lease, and what finding out and running again may take beyond it on a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(LEASE + 18);

/// Looks at an operation until it has ended, for as long as a takeover may last.
async fn settled(node: &Process, ticket: &Ticket) -> serde_json::Value {
    until_within(TAKEN_OVER, "an end", || async {
        let document = node.document(ticket).await;
        crate::support::gateway::is_final(&document).then_some(document)
    })
    .await
}

#[tokio::test]
async fn what_a_killed_worker_held_is_finished_elsewhere_and_what_goes_once_is_unknown() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let mut dies = fleet.worker(&[]).await;
    upstream.hold("/again");
    upstream.hold("/once");
    let again = front.accept(post("/again")).await;
    let once = front.accept(post("/once")).await;
    upstream.until_received("/again", 1).await;
    upstream.until_received("/once", 1).await;
    let _lives = fleet.worker(&[]).await;
    dies.kill().await;
    upstream.release("/again");
    upstream.release("/once");
    let document = settled(&front, &again).await;
    assert_eq!((&document["status"], &document["rescues"]), (&"succeeded".into(), &1.into()));
    let document = settled(&front, &once).await;
    assert_eq!(document["error"]["code"], "outcome-unknown");
    assert_eq!((upstream.received_at("/again").len(), upstream.received_at("/once").len()), (2, 1));
}

#[tokio::test]
async fn a_node_that_stood_still_past_its_lease_finishes_nothing_twice() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let frozen = fleet.worker(&["--name", "frozen"]).await;
    upstream.hold("/again");
    upstream.hold("/once");
    let again = front.accept(post("/again")).await;
    let once = front.accept(post("/once")).await;
    upstream.until_received("/again", 1).await;
    upstream.until_received("/once", 1).await;
    frozen.signal("STOP").await;
    let _lives = fleet.worker(&[]).await;
    until_within(TAKEN_OVER * 2, "another attempt", || async {
        (upstream.received_at("/again").len() == 2).then_some(())
    })
    .await;
    upstream.release("/again");
    upstream.release("/once");
    let ends = [settled(&front, &again).await, settled(&front, &once).await];
    frozen.signal("CONT").await;
    until("the frozen one's beats", || async {
        (named(&front, "frozen").await.unwrap()["state"] == "alive").then_some(())
    })
    .await;
    // By then it has had the answers that came while it stood still.
    let after = front.accept(post("/again")).await;
    settled(&front, &after).await;
    for (ticket, end) in [&again, &once].into_iter().zip(ends) {
        assert_eq!(front.document(ticket).await, end);
        let events = front.get(&ticket.at("events")).await.expect(200).json();
        let ends = ["operation.succeeded", "operation.failed"];
        let finals = events["events"].as_array().unwrap().iter();
        let finals = finals.filter(|event| ends.contains(&event["type"].as_str().unwrap()));
        assert_eq!(finals.count(), 1, "{events}");
    }
    assert_eq!(upstream.received_at("/once").len(), 1);
}

#[tokio::test]
async fn a_database_that_is_away_for_longer_than_a_lease_kills_nobody() {
    let upstream = Upstream::start().await;
    let cluster = Cluster::start();
    let fleet = Fleet::on(&cluster.database(), &upstream);
    let front = fleet.front().await;
    let _one = fleet.worker(&["--name", "one"]).await;
    let _two = fleet.worker(&["--name", "two"]).await;
    upstream.hold("/once");
    let tickets = [front.accept(post("/once")).await, front.accept(post("/once")).await];
    upstream.until_received("/once", 2).await;
    cluster.stop();
    pause(Duration::from_secs(LEASE * 2)).await;
    cluster.start_again();
    upstream.release("/once");
    for ticket in &tickets {
        let document = until_within(TAKEN_OVER, "an end", || async {
            let answer = front.get(&ticket.at("status")).await;
            let document = (answer.status == 200).then(|| answer.json())?;
            crate::support::gateway::is_final(&document).then_some(document)
        })
        .await;
        assert_eq!((&document["status"], &document["rescues"]), (&"succeeded".into(), &0.into()));
    }
    let after = until("an acceptance", || async {
        let answer = front.send(post("/again")).await;
        (answer.status == 202).then(|| Ticket::of(&answer))
    });
    let after = after.await;
    assert_eq!(settled(&front, &after).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/once").len(), 2);
}

#[tokio::test]
async fn a_request_that_kills_its_workers_is_given_up_and_takes_no_bystander_with_it() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let mut worker = fleet.worker(&[]).await;
    upstream.hold("/poison");
    let poison = front.accept(post("/poison")).await;
    upstream.hold("/again");
    let bystander = front.accept(post("/again")).await;
    upstream.until_received("/again", 1).await;
    // Alone, it waits longer each time.
    let limit = Duration::from_mins(1);
    for deaths in 1..=5 {
        until_within(limit, "the poison", || async {
            (upstream.received_at("/poison").len() == deaths).then_some(())
        })
        .await;
        worker.kill().await;
        upstream.release("/again");
        worker = fleet.worker(&[]).await;
    }
    let document = until_within(limit, "the end of the poison", || async {
        let document = front.document(&poison).await;
        crate::support::gateway::is_final(&document).then_some(document)
    })
    .await;
    assert_eq!(document["error"]["code"], "rescues-exhausted");
    assert!(document["error"]["message"].as_str().unwrap().contains("alone"));
    assert_eq!(settled(&front, &bystander).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/poison").len(), 5);
}

#[tokio::test]
async fn a_rolling_restart_hands_everything_on() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let mut first = fleet.worker(&[]).await;
    let mut tickets = Vec::new();
    for _ in 0..10 {
        tickets.push(front.accept(post("/once")).await);
    }
    first.signal("TERM").await;
    for _ in 0..10 {
        tickets.push(front.accept(post("/once")).await);
    }
    assert!(first.ended().await.success());
    let _second = fleet.both().await;
    for ticket in &tickets {
        let document = settled(&front, ticket).await;
        assert_eq!((&document["status"], &document["rescues"]), (&"succeeded".into(), &0.into()));
    }
    assert_eq!(upstream.received_at("/once").len(), 20);
}
