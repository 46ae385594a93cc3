//! `cloakroom serial`, and verdicts, against a running gateway.

use std::process::Output;

use serde_json::Value;

use super::{run, stdout, words};
use crate::support::gateway::{Process, order};
use crate::support::{Answer, Setup, Ticket, Upstream};

async fn command(process: &Process, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", process.admin);
    run(&[arguments, &["--admin", &admin]].concat(), None).await
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", words(output));
    stdout(output)
}

async fn json(process: &Process, arguments: &[&str]) -> Value {
    let output = command(process, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&done(&output)).expect("JSON")
}

/// A gateway with a key that a failure blocks, and one who waits for it.
async fn blocked(upstream: &Upstream) -> (Process, [Ticket; 2]) {
    upstream.script("/orders", [Answer::status(422)]);
    let lines = "serial_key = \"header:Customer-Id\"\nserial_on_failure = \"block\"";
    let process = Setup::before(upstream).route("POST /orders", lines).spawn().await;
    let failed = process.accept(order().field("Customer-Id", "seven")).await;
    assert_eq!(process.settled(&failed).await["status"], "failed");
    let behind = process.accept(order().field("Customer-Id", "seven")).await;
    let document = process.until_status(&behind, "waiting").await;
    assert_eq!(document["waitingFor"], "serial-key");
    (process, [failed, behind])
}

#[tokio::test]
async fn a_blocked_key_is_listed_and_released_by_its_text() {
    let upstream = Upstream::start().await;
    let (process, [failed, behind]) = blocked(&upstream).await;
    let table = done(&command(&process, &["serial", "list", "--blocked"]).await);
    let row = table.lines().nth(1).expect("a row");
    assert!(row.starts_with("seven") && row.contains(&failed.id), "{table}");
    let listed = json(&process, &["serial", "list"]).await;
    let key = &listed["keys"][0];
    assert_eq!((&key["blocked"], &key["waiting"]), (&true.into(), &1.into()), "{listed}");
    let released = done(&command(&process, &["serial", "release", "seven"]).await);
    assert!(released.contains(&behind.id), "{released}");
    assert_eq!(process.settled(&behind).await["status"], "succeeded");
    let again = command(&process, &["serial", "release", "seven"]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(words(&again).contains("no failure blocks"), "{}", words(&again));
}

#[tokio::test]
async fn a_repeat_by_hand_goes_before_those_who_wait() {
    let upstream = Upstream::start().await;
    let (process, [failed, behind]) = blocked(&upstream).await;
    upstream.hold("/orders");
    let repeat = done(&command(&process, &["ops", "retry", &failed.id]).await);
    upstream.until_received("/orders", 2).await;
    assert_eq!(process.document(&behind).await["status"], "waiting");
    let none = json(&process, &["serial", "list", "--blocked"]).await;
    assert_eq!(none["keys"], serde_json::json!([]));
    upstream.release("/orders");
    assert_eq!(process.settled(&behind).await["status"], "succeeded");
    let order = upstream.received_at("/orders");
    assert_eq!(order[1].field("operation-id"), Some(repeat.trim()));
    assert_eq!(order[2].field("operation-id"), Some(&*behind.id));
}

#[tokio::test]
async fn a_verdict_is_shown_and_takes_the_operation_off_the_list() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::Reset);
    let process = Setup::before(&upstream).spawn().await;
    let ticket = process.post_order().await;
    process.settled(&ticket).await;
    let unknown = json(&process, &["ops", "list", "--unknown"]).await;
    assert_eq!(unknown["operations"][0]["id"], *ticket.id);
    let shown = command(&process, &["ops", "show", &ticket.id]).await;
    assert!(words(&shown).contains("ops verdict"), "{}", words(&shown));
    let verdict = ["ops", "verdict", &ticket.id, "--happened", "--location", "/orders/7"];
    assert_eq!(done(&command(&process, &verdict).await).trim(), "happened");
    let document = process.document(&ticket).await;
    assert_eq!(document["status"], "failed");
    assert_eq!(document["verdict"]["outcome"], "happened");
    let location = document["verdict"]["location"].as_str().unwrap();
    assert_eq!(location, format!("{}/orders/7", process.origin()));
    let timeline = process.get(&ticket.at("events")).await.expect(200).json();
    let last = timeline["events"].as_array().unwrap().last().unwrap();
    assert_eq!(last["type"], "operation.reconciled");
    let unknown = json(&process, &["ops", "list", "--unknown"]).await;
    assert_eq!(unknown["operations"], serde_json::json!([]));
    for (arguments, code) in [
        (&["ops", "verdict", &ticket.id][..], 2),
        (&["ops", "verdict", &ticket.id, "--did-not-happen", "--location", "/x"], 1),
    ] {
        assert_eq!(command(&process, arguments).await.status.code(), Some(code));
    }
}

#[tokio::test]
async fn a_look_through_the_ledger_tells_what_needs_a_person() {
    let upstream = Upstream::start().await;
    let (process, _) = blocked(&upstream).await;
    let report = command(&process, &["reconcile", "--json"]).await;
    assert_eq!(report.status.code(), Some(1), "{}", words(&report));
    let report: Value = serde_json::from_str(&stdout(&report)).expect("JSON");
    assert_eq!(report["findings"][0]["kind"], "key-blocked");
    assert_eq!(report["operations"], 2);
    done(&command(&process, &["serial", "release", "seven"]).await);
    let output = command(&process, &["reconcile", "--dry-run"]).await;
    assert_eq!((done(&output), output.status.code()), (String::new(), Some(0)));
    assert!(words(&output).contains("everything adds up"), "{}", words(&output));
}
