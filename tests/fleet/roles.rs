//! The duties of each role.

use serde_json::Value;

use super::Fleet;
use crate::support::gateway::Process;
use crate::support::postgres::cluster;
use crate::support::time::until;
use crate::support::{Setup, Upstream, get, post};

/// The nodes as this one lists them.
pub(super) async fn nodes(node: &Process) -> Vec<Value> {
    let told = node.admin(get("/-/nodes")).await.expect(200).json();
    told["nodes"].as_array().expect("nodes").clone()
}

/// The node that was started with this process, as it lists itself.
pub(super) async fn named(node: &Process, name: &str) -> Option<Value> {
    nodes(node).await.into_iter().find(|row| row["name"] == name)
}

#[tokio::test]
async fn a_front_begins_nothing_and_a_worker_carries_out_what_it_accepted() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let ticket = front.accept(post("/again")).await;
    // It beats, so its engine runs: what it would begin, it would have begun.
    until("beats of the front", || async {
        let rows = nodes(&front).await;
        (rows[0]["role"] == "front" && rows[0]["slots"] == 0).then_some(())
    })
    .await;
    assert_eq!(front.document(&ticket).await["status"], "queued");
    assert!(upstream.received().is_empty());
    front.admin(get("/readyz")).await.expect(200);
    let _worker = fleet.worker(&[]).await;
    assert_eq!(front.settled(&ticket).await["status"], "succeeded");
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn a_worker_has_no_public_listener_and_answers_operators() {
    let upstream = Upstream::start().await;
    let worker = Fleet::before(&upstream).worker(&["--slots", "7", "--name", "w1"]).await;
    assert!(!worker.stdout().contains("listening on"), "{}", worker.stdout());
    assert!(worker.stdout().contains("7 slots"), "{}", worker.stdout());
    worker.admin(get("/readyz")).await.expect(200);
    until("its first beat in the metrics", || async {
        let metrics = worker.admin(get("/metrics")).await.expect(200);
        metrics.text().contains("cloakroom_nodes{state=\"alive\"} 1").then_some(())
    })
    .await;
    let row = named(&worker, "w1").await.expect("itself");
    assert_eq!((&row["role"], &row["slots"]), (&"worker".into(), &7.into()));
}

#[tokio::test]
async fn a_worker_carries_out_only_the_queues_that_it_was_given() {
    let upstream = Upstream::start().await;
    let fleet = Fleet::before(&upstream);
    let front = fleet.front().await;
    let other = front.accept(post("/again")).await;
    let report = front.accept(post("/reports")).await;
    let _reports = fleet.worker(&["--queues", "reports"]).await;
    assert_eq!(front.settled(&report).await["status"], "succeeded");
    assert_eq!(front.document(&other).await["status"], "queued");
    let _default = fleet.worker(&["--queues", "default"]).await;
    assert_eq!(front.settled(&other).await["status"], "succeeded");
}

#[tokio::test]
async fn a_worker_claims_only_what_is_for_upstreams_that_it_knows() {
    let (orders, alarms) = (Upstream::start().await, Upstream::start().await);
    let one = Setup::before(&orders)
        .on(&cluster().database())
        .route("POST /orders", "upstream = \"default\"");
    let both = one
        .clone()
        .set("upstreams.alarms", &format!("url = {:?}", alarms.url()))
        .route("POST /alarms", "upstream = \"alarms\"");
    let front = both.clone().spawn_as(&["serve", "--role", "front"]).await;
    let alarm = front.accept(post("/alarms")).await;
    let _knows_one = one.spawn_as(&["worker"]).await;
    for _ in 0..3 {
        let order = front.accept(post("/orders")).await;
        assert_eq!(front.settled(&order).await["status"], "succeeded");
    }
    assert_eq!(front.document(&alarm).await["status"], "queued");
    let _knows_both = both.spawn_as(&["worker"]).await;
    assert_eq!(front.settled(&alarm).await["status"], "succeeded");
    assert_eq!((orders.received().len(), alarms.received().len()), (3, 1));
}

#[tokio::test]
async fn a_fleet_on_a_file_is_refused_with_what_it_needs() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).spawn().await;
    let (status, says) = gateway.second().await;
    assert!(!status.success() && says.contains("needs PostgreSQL"), "{says}");
    let alone = Setup::before(&upstream).set("engine", "role = \"front\"");
    let (status, says) = alone.refused().await;
    assert!(status.code() == Some(2) && says.contains("a fleet needs PostgreSQL"), "{says}");
}
