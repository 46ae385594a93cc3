//! `cloakroom ops` against a running gateway.

use std::process::Output;

use serde_json::Value;

use super::{run, stdout, words};
use crate::support::gateway::{Process, order};
use crate::support::{Answer, Setup, Ticket, Upstream, post, upstream};

/// An operator's command about this gateway.
async fn ops(process: &Process, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", process.admin);
    let all = [&["ops"], arguments, &["--admin", &admin]].concat();
    run(&all, None).await
}

/// The same, which has to go well; gives what it printed.
#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", words(output));
    stdout(output)
}

#[track_caller]
fn refused(output: &Output, code: i32, says: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", words(output));
    assert_eq!(stdout(output), "", "a refusal is no result");
    assert!(words(output).contains(says), "{says} in {}", words(output));
    assert!(words(output).starts_with("error: "), "{}", words(output));
}

async fn json(process: &Process, arguments: &[&str]) -> Value {
    let output = ops(process, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&done(&output)).expect("JSON")
}

async fn ids(process: &Process, arguments: &[&str]) -> Vec<String> {
    let listed = json(process, &[&["list"], arguments].concat()).await;
    let operations = listed["operations"].as_array().expect("a list").iter();
    operations.map(|it| it["id"].as_str().expect("an id").to_owned()).collect()
}

/// A gateway with one operation that succeeded, one whose outcome is unknown, and one
/// that is due later.
async fn with_three(upstream: &Upstream) -> (Process, [Ticket; 3]) {
    upstream.script("/alarms", [Answer::Reset]);
    let setup = Setup::before(upstream).set("queues.urgent", "max_depth = 100");
    let setup = setup.route("POST /orders", "").route("POST /alarms", "queue = \"urgent\"");
    let process = setup.spawn().await;
    let good = process.accept(order().field("Operation-Tags", "account:121")).await;
    process.settled(&good).await;
    let bad = process.accept(post("/alarms")).await;
    process.settled(&bad).await;
    let later = process.accept(order().field("Operation-Delay", "3600")).await;
    (process, [good, bad, later])
}

#[tokio::test]
async fn a_list_is_a_table_for_people_and_json_for_machines() {
    let upstream = Upstream::start().await;
    let (process, [good, bad, later]) = with_three(&upstream).await;
    let table = done(&ops(&process, &["list"]).await);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("ID") && lines[0].contains("STATUS"), "{table}");
    for (line, ticket, parts) in [
        (lines[1], &later, ["queued", "POST /orders"]),
        (lines[2], &bad, ["outcome-unknown", "POST /alarms"]),
        (lines[3], &good, ["succeeded", "201"]),
    ] {
        assert!(line.starts_with(&ticket.id), "newest first: {table}");
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
    }
    assert_eq!(lines.len(), 4, "{table}");
    assert_eq!(ids(&process, &[]).await, [&*later.id, &bad.id, &good.id]);
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let upstream = Upstream::start().await;
    let (process, [good, bad, later]) = with_three(&upstream).await;
    for (filter, found) in [
        (&["--status", "failed"][..], vec![&bad]),
        (&["--status", "queued"], vec![&later]),
        (&["--queue", "urgent"], vec![&bad]),
        (&["--tag", "account:121"], vec![&good]),
        (&["--since", "1h"], vec![&later, &bad, &good]),
        (&["--since", "2099-01-01T00:00:00Z"], vec![]),
        (&["--status", "succeeded", "--queue", "urgent"], vec![]),
        (&["--limit", "1"], vec![&later]),
    ] {
        let found: Vec<_> = found.into_iter().map(|ticket| ticket.id.clone()).collect();
        assert_eq!(ids(&process, filter).await, found, "{filter:?}");
    }
    let none = ops(&process, &["list", "--status", "canceled"]).await;
    assert_eq!(done(&none), "");
    assert!(words(&none).contains("no operations match"), "{}", words(&none));
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused_with_what_can() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    refused(&ops(&process, &["list", "--status", "broken"]).await, 1, "queued, running");
    refused(&ops(&process, &["list", "--since", "yesterday"]).await, 2, "15m");
}

#[tokio::test]
async fn a_list_goes_on_past_one_page() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let mut accepted = Vec::new();
    for _ in 0..103 {
        let ticket = process.accept(order().field("Operation-Delay", "3600")).await;
        accepted.push(ticket.id);
    }
    // Of two in the same millisecond, either may have the greater id.
    accepted.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(ids(&process, &["--limit", "1000"]).await, accepted);
    assert_eq!(ids(&process, &["--limit", "101"]).await, accepted[..101]);
    let table = done(&ops(&process, &["list", "--limit", "102"]).await);
    assert_eq!(table.lines().count(), 103);
}

#[tokio::test]
async fn an_operation_is_shown_by_its_id_its_ticket_or_its_url() {
    let upstream = Upstream::start().await;
    let (process, [_, bad, _]) = with_three(&upstream).await;
    let ticket = bad.monitor.rsplit('/').next().unwrap();
    let url = format!("{}{}", process.origin(), bad.monitor);
    for name in [&*bad.id, ticket, &*url] {
        let shown = json(&process, &["show", name]).await;
        assert_eq!(shown["operation"]["id"], *bad.id, "{name}");
        assert_eq!(shown["operation"]["error"]["code"], "outcome-unknown");
        let events = shown["events"].as_array().unwrap();
        assert_eq!(events.last().unwrap()["type"], "operation.failed", "{shown}");
    }
    let output = ops(&process, &["show", &bad.id]).await;
    let table = done(&output);
    for part in [&*bad.id, "outcome-unknown", "delivery = \"at-least-once\"", "operation.started"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let next = format!("cloakroom ops retry {}", bad.id);
    assert!(words(&output).contains(&next), "what to do next: {}", words(&output));
}

#[tokio::test]
async fn what_names_no_operation_is_refused() {
    let upstream = Upstream::start().await;
    let (process, [good, ..]) = with_three(&upstream).await;
    let unknown = "01a1fd3c-d3a2-766e-878e-759c0b0a0f84";
    let forged = format!("{}-{}", good.id, "0".repeat(32));
    for verb in ["show", "result", "cancel", "retry"] {
        for name in [unknown, &forged, "nonsense"] {
            refused(&ops(&process, &[verb, name]).await, 1, "no operation has this id");
        }
        refused(&ops(&process, &[verb, "no id"]).await, 2, "cloakroom ops list");
    }
}

#[tokio::test]
async fn a_result_is_passed_on_octet_by_octet_and_its_status_is_told_apart() {
    let upstream = Upstream::start().await;
    upstream.on("/reports", Answer::status(200).body("application/octet-stream", [0, 255, 10, 7]));
    upstream.on("/faults", Answer::status(422).body("text/plain", "not like this"));
    let process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(post("/reports")).await;
    process.settled(&ticket).await;
    let result = ops(&process, &["result", &ticket.id]).await;
    assert!(result.status.success(), "{}", words(&result));
    assert_eq!(result.stdout, [0, 255, 10, 7]);
    assert!(words(&result).contains("the upstream answered 200"), "{}", words(&result));
    let ticket = process.accept(post("/faults")).await;
    process.settled(&ticket).await;
    let result = ops(&process, &["result", &ticket.id]).await;
    assert_eq!(result.status.code(), Some(1));
    assert_eq!(stdout(&result), "not like this");
}

#[tokio::test]
async fn without_an_answer_the_result_is_a_failure_that_says_why() {
    let upstream = Upstream::start().await;
    let (process, [_, bad, later]) = with_three(&upstream).await;
    refused(&ops(&process, &["result", &bad.id]).await, 1, "may or may not have acted");
    refused(&ops(&process, &["result", &later.id]).await, 1, "not finished");
}

#[tokio::test]
async fn cancel_calls_off_what_has_not_begun_and_refuses_what_has_ended() {
    let upstream = Upstream::start().await;
    let (process, [good, _, later]) = with_three(&upstream).await;
    assert_eq!(done(&ops(&process, &["cancel", &later.id]).await), "canceled\n");
    assert_eq!(process.document(&later).await["status"], "canceled");
    let again = json(&process, &["cancel", &later.id]).await;
    assert_eq!(again["status"], "canceled");
    refused(&ops(&process, &["cancel", &good.id]).await, 1, "succeeded");
}

#[tokio::test]
async fn cancel_says_when_an_attempt_is_still_being_dropped() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    let said = done(&ops(&process, &["cancel", &ticket.id]).await);
    assert!(said.contains("being dropped") || said.contains("canceled"), "{said}");
    assert_eq!(process.settled(&ticket).await["status"], "canceled");
}

#[tokio::test]
async fn retry_prints_the_successor_which_names_the_first_and_carries_its_key() {
    let upstream = Upstream::start().await;
    let (process, [_, bad, later]) = with_three(&upstream).await;
    let output = ops(&process, &["retry", &bad.id]).await;
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warned.contains("may have carried"), "the outcome is unknown: {warned}");
    let printed = done(&output);
    let successor = printed.trim_end();
    assert_ne!(successor, bad.id);
    upstream.until_received("/alarms", 2).await;
    let shown = json(&process, &["show", successor]).await;
    assert_eq!(shown["operation"]["retryOf"], *bad.id);
    let keys = upstream.received_at("/alarms");
    let key = |n: usize| keys[n].expect_field("idempotency-key");
    assert_eq!(key(0), key(1));
    assert_eq!(process.document(&bad).await["status"], "failed", "the first stays as it is");
    assert_eq!(process.document(&bad).await["retriedBy"], successor);
    let document = json(&process, &["retry", &bad.id, "--again"]).await;
    assert_eq!(document["retryOf"], *bad.id);
    refused(&ops(&process, &["retry", &later.id]).await, 1, "cancel it first");
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_told_with_what_to_do() {
    let admin = format!("http://{}", upstream::closed_port().await);
    for arguments in [&["list"][..], &["show", "0192"], &["retry", "0192"]] {
        let output = run(&[&["ops", "--admin", &admin], arguments].concat(), None).await;
        refused(&output, 1, "--admin");
        assert!(words(&output).contains("cloakroom serve"), "{}", words(&output));
    }
    refused(&run(&["ops", "list", "--admin", "localhost:8081"], None).await, 2, "http://127.0.0.1");
}

#[tokio::test]
async fn what_is_no_admin_listener_is_told_as_such() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).shared(false).spawn().await;
    for address in [upstream.address, process.public] {
        let admin = format!("http://{address}");
        refused(&run(&["ops", "list", "--admin", &admin], None).await, 1, "the admin listener");
    }
}
