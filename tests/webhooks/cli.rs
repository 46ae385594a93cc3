//! `cloakroom webhooks`, against a running gateway.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::scene::open_to;
use crate::support::gateway::{Process, cloakroom, order};
use crate::support::time::{until, within};
use crate::support::{Receiver, Setup, Upstream};

const NOWHERE: &str = "https://hooks.example.com/orders";

async fn command(process: &Process, arguments: &[&str]) -> Output {
    run(process, "webhooks", arguments).await
}

async fn run(process: &Process, of: &str, arguments: &[&str]) -> Output {
    let mut command = cloakroom();
    command.arg(of).args(arguments);
    command.args(["--admin", &format!("http://{}", process.admin)]);
    within("the end of the command", command.output()).await.unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn words(output: &Output) -> String {
    format!("{}{}", out(output), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", words(output));
    out(output)
}

async fn json(process: &Process, arguments: &[&str]) -> Value {
    let output = command(process, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&done(&output)).expect("JSON")
}

async fn process() -> (Upstream, Process) {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).route("POST /orders", "name = \"orders\"").spawn().await;
    (upstream, process)
}

#[tokio::test]
async fn a_subscription_is_made_shown_changed_and_deleted() {
    let (_upstream, process) = process().await;
    let arguments = ["create", "--url", NOWHERE, "--route", "orders", "--header", "X-A: 1"];
    let made = json(&process, &arguments).await;
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(made["events"].as_array().unwrap().len(), 4, "the ends unless told");
    let id = made["id"].as_str().unwrap();
    let table = done(&command(&process, &["list"]).await);
    assert!(table.contains(id) && table.contains("active") && table.contains(NOWHERE), "{table}");
    let shown = done(&command(&process, &["show", id]).await);
    assert!(shown.contains("x-a") && !shown.contains("whsec_"), "{shown}");
    let changed =
        json(&process, &["update", id, "--event", "operation.failed", "--any-route"]).await;
    assert_eq!(changed["events"], serde_json::json!(["operation.failed"]));
    assert_eq!(changed["routes"], serde_json::json!([]));
    let disabled = done(&command(&process, &["disable", id]).await);
    assert_eq!(disabled.trim(), format!("{id}: disabled"));
    done(&command(&process, &["enable", id]).await);
    let secret = done(&command(&process, &["rotate", id, "--grace", "1h"]).await);
    assert!(secret.starts_with("whsec_"), "{secret}");
    let both =
        json(&process, &["rotate", id, "--signature", "v1a", "--beside", "--grace", "0s"]).await;
    let for_good: Vec<_> =
        both["keys"].as_array().unwrap().iter().map(|key| &key["retiresAt"]).collect();
    assert_eq!(for_good[..2], [&Value::Null, &Value::Null], "{both}");
    let deleted = json(&process, &["delete", id]).await;
    assert_eq!(deleted, serde_json::json!({ "id": id, "deleted": true }));
    let none = command(&process, &["list"]).await;
    assert_eq!((done(&none), words(&none).contains("create")), (String::new(), true));
}

#[tokio::test]
async fn what_is_made_to_sign_with_is_the_last_line() {
    let (_upstream, process) = process().await;
    for (arguments, prefix) in [(&[][..], "whsec_"), (&["--signature", "v1a"], "whpk_")] {
        let arguments = [&["create", "--url", NOWHERE], arguments].concat();
        let made = command(&process, &arguments).await;
        let last = done(&made).lines().last().unwrap().to_owned();
        assert!(last.starts_with(prefix), "{}", words(&made));
    }
}

#[tokio::test]
async fn a_replay_that_is_followed_says_how_much_it_sent() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let process = Setup::before(&upstream)
        .set("webhooks", &open_to(&[receiver.address.port()]))
        .route("POST /orders", "")
        .spawn()
        .await;
    let made = json(&process, &["create", "--url", &receiver.url("/hooks")]).await;
    let id = made["id"].as_str().unwrap();
    process.post_order().await;
    until("it is delivered", || async {
        let delivered = json(&process, &["deliveries", id, "--state", "delivered"]).await;
        (delivered["deliveries"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    let replay = ["replay", id, "--since", "1h", "--follow", "--select"];
    let said = done(&command(&process, &[&replay[..], &["delivered"]].concat()).await);
    assert_eq!(said.trim(), "succeeded: 1 sent once more");
    let none = json(&process, &[&replay[..], &["held"]].concat()).await;
    assert_eq!((&none["status"], &none["replayed"]), (&"succeeded".into(), &0.into()));
}

#[tokio::test]
async fn a_key_pair_and_callback_keys_are_shown() {
    let (_upstream, process) = process().await;
    json(&process, &["create", "--url", NOWHERE, "--signature", "v1a"]).await;
    let none = command(&process, &["callback-key"]).await;
    assert!(done(&none).is_empty() && words(&none).contains("--rotate"), "{}", words(&none));
    let secret = done(&command(&process, &["callback-key", "--rotate"]).await);
    assert!(secret.starts_with("whsec_") && secret.contains("\nwhpk_"), "{secret}");
    assert_eq!(done(&command(&process, &["callback-key"]).await).lines().count(), 2);
    let keys = json(&process, &["keys"]).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2, "{keys}");
}

#[tokio::test]
async fn what_was_sent_to_a_callback_is_listed_under_its_operation() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    let process = Setup::before(&upstream)
        .set("webhooks", &open_to(&[receiver.address.port()]))
        .route("POST /orders", "callbacks = \"any\"")
        .spawn()
        .await;
    let ticket = process.accept(order().field("Callback-Url", receiver.url("/called"))).await;
    receiver.until_arrived(1).await;
    let listed = run(&process, "ops", &["deliveries", &ticket.id, "--json"]).await;
    let listed: Value = serde_json::from_str(&done(&listed)).unwrap();
    let only = &listed["deliveries"][0];
    assert_eq!(
        (&only["event"], &only["url"]),
        (&"operation.succeeded".into(), &receiver.url("/called").into())
    );
    let table = done(&run(&process, "ops", &["deliveries", &ticket.monitor]).await);
    assert!(table.contains("operation.succeeded") && table.contains(&ticket.id), "{table}");
    let other = process.post_order().await;
    let none = run(&process, "ops", &["deliveries", &other.id]).await;
    assert!(
        done(&none).is_empty() && words(&none).contains("no such delivery"),
        "{}",
        words(&none)
    );
}

#[tokio::test]
async fn headers_and_secrets_come_from_where_nobody_else_sees_them() {
    let (_upstream, process) = process().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let headers = file("headers", "X-Api-Key: hunter2\n\nX-Other: 1\n");
    let secret = file("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let arguments = ["create", "--url", NOWHERE, "--header", "X-A: 1", "--header-file", &headers];
    let made = json(&process, &[&arguments[..], &["--secret-file", &secret]].concat()).await;
    assert_eq!(made["headerNames"], serde_json::json!(["x-a", "x-api-key", "x-other"]));
    assert_eq!(made["secret"], "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let id = made["id"].as_str().unwrap();
    let mut update = cloakroom();
    update.args(["webhooks", "update", id, "--header-file", "-", "--json", "--admin"]);
    update.arg(format!("http://{}", process.admin)).stdin(Stdio::piped());
    let mut update = update.stdout(Stdio::piped()).spawn().unwrap();
    let mut input = update.stdin.take().unwrap();
    input.write_all(b"X-Other:\nX-More: 2").await.unwrap();
    drop(input);
    let changed = within("the end of the command", update.wait_with_output()).await.unwrap();
    let changed: Value = serde_json::from_str(&done(&changed)).unwrap();
    assert_eq!(changed["headerNames"], serde_json::json!(["x-a", "x-api-key", "x-more"]));
    let wrong = file("wrong", "X-Fine: 1\nhunter2");
    let told = command(&process, &["update", id, "--header-file", &wrong]).await;
    assert_eq!(told.status.code(), Some(2), "{}", words(&told));
    assert!(words(&told).contains("header 2"), "{}", words(&told));
    assert!(!words(&told).contains("hunter2"), "{}", words(&told));
}

#[tokio::test]
async fn what_was_asked_wrongly_ends_with_2_and_what_is_refused_with_1() {
    let (_upstream, process) = process().await;
    let made = json(&process, &["create", "--url", NOWHERE]).await;
    let id = made["id"].as_str().unwrap();
    for (arguments, code, says) in [
        (&["show", "nonsense"][..], 2, "webhooks list"),
        (&["update", id], 2, "--help"),
        (&["create"], 2, "--url"),
        (&["create", "--url", NOWHERE, "--header", "x"], 2, "X-Api-Key"),
        (&["rotate", id, "--grace", "soon"], 2, "24h"),
        (&["replay", id, "--since", "yesterday"], 2, "15m"),
        (&["create", "--url", "https://127.0.0.1/"], 1, "127.0.0.1"),
        (&["create", "--url", NOWHERE, "--event", "x"], 1, "operation.failed"),
        (&["deliveries", id, "7"], 1, "delivery"),
        (&["show", "5f0c1d2e-3a4b-4c6d-8e8f-901a2b3c4d5e"], 1, "cloakroom webhooks list"),
    ] {
        let output = command(&process, arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {}", words(&output));
        assert!(words(&output).contains(says), "{arguments:?} {}", words(&output));
    }
}
