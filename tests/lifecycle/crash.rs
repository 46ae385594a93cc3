//! `kill -9` at a known moment, and the next start.

use crate::support::gateway::{Process, order};
use crate::support::{Answer, Setup, Ticket, Upstream};

async fn spawn(upstream: &Upstream, delivery: &str) -> Process {
    let route = format!("delivery = {delivery:?}");
    Setup::before(upstream).route("POST /orders", &route).spawn().await
}

/// Kills a process while one order is at the upstream, and starts it again.
async fn killed_while_running(upstream: &Upstream, delivery: &str) -> (Process, Ticket) {
    upstream.hold("/orders");
    let mut process = spawn(upstream, delivery).await;
    let ticket = process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    process.kill().await;
    upstream.release("/orders");
    (process.again().await, ticket)
}

#[tokio::test]
async fn an_at_least_once_operation_is_finished_at_once_after_the_restart() {
    let upstream = Upstream::start().await;
    let (process, ticket) = killed_while_running(&upstream, "at-least-once").await;
    let document = process.settled(&ticket).await;
    assert_eq!(document["status"], "succeeded", "{document}");
    assert_eq!(document["rescues"], 1, "{document}");
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn an_at_most_once_operation_that_was_owned_is_an_unknown_outcome_and_never_resent() {
    let upstream = Upstream::start().await;
    let (process, ticket) = killed_while_running(&upstream, "at-most-once").await;
    let document = process.settled(&ticket).await;
    assert_eq!(document["error"]["code"], "outcome-unknown", "{document}");
    assert!(document["error"]["cause"].is_string(), "{document}");
    let after = process.accept(order()).await;
    process.settled(&after).await;
    assert_eq!(upstream.counts("operation-id")[&ticket.id], 1);
}

#[tokio::test]
async fn what_was_accepted_and_not_begun_is_carried_out_once() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(order().field("Operation-Delay", "1")).await;
    process.kill().await;
    let process = process.again().await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
    upstream.only();
}

#[tokio::test]
async fn a_followed_202_goes_on_being_followed() {
    let upstream = Upstream::start().await;
    let pending = Answer::status(202).field("Location", "/jobs/1").field("Retry-After", "1");
    upstream.on("/orders", pending.clone());
    upstream.on("/jobs/1", pending);
    let mut process = spawn(&upstream, "at-most-once").await;
    let ticket = process.accept(order()).await;
    process.until_status(&ticket, "waiting").await;
    process.kill().await;
    upstream.on("/jobs/1", Answer::status(200).body("text/plain", "done"));
    let process = process.again().await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
    assert_eq!(upstream.received_at("/orders").len(), 1);
}

#[tokio::test]
async fn a_key_still_names_its_operation() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).spawn().await;
    let keyed = || order().field("Idempotency-Key", "k");
    let ticket = process.accept(keyed()).await;
    process.kill().await;
    let process = process.again().await;
    assert_eq!(process.accept(keyed()).await.id, ticket.id);
    process.settled(&ticket).await;
    assert_eq!(process.listed().await, 1);
}

#[tokio::test]
async fn a_result_is_still_there() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(200).body("text/plain", vec![b'x'; 700_000]));
    let mut process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(order()).await;
    process.settled(&ticket).await;
    process.kill().await;
    let process = process.again().await;
    let result = process.get(&ticket.at("result")).await.expect(200);
    assert_eq!(result.body.len(), 700_000);
}

#[tokio::test]
async fn a_stopped_process_that_goes_on_has_lost_nothing() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let process = spawn(&upstream, "at-least-once").await;
    let ticket = process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    process.signal("STOP").await;
    upstream.release("/orders");
    process.signal("CONT").await;
    assert_eq!(process.settled(&ticket).await["status"], "succeeded");
    upstream.only();
}
