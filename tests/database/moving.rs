//! A ledger that moves from a file into a database.

use std::process::Output;

use serde_json::Value;

use crate::support::gateway::{Process, cloakroom, order};
use crate::support::postgres::cluster;
use crate::support::{Answer, Setup, Ticket, Upstream, post};

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .route("POST /orders", "delivery = \"at-least-once\"")
        .route("POST /held", "delivery = \"at-least-once\"")
        .route("POST /once", "")
}

async fn copy(process: &Process, database: &str) -> Output {
    let from = format!("sqlite:{}", process.store().display());
    let mut command = cloakroom();
    command.args(["ledger", "copy", "--from", &from, "--to", database]);
    command.output().await.unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn large(octet: u8) -> Vec<u8> {
    vec![octet; 700 * 1024]
}

/// What a ledger holds when it is moved.
struct Held {
    finished: Ticket,
    failed: Ticket,
    running: Ticket,
    once: Ticket,
    behind: Ticket,
    queued: Ticket,
}

/// A gateway on a file that is killed in the middle of things.
async fn fill(process: &mut Process, upstream: &Upstream) -> Held {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_vec();
    upstream.on("/orders", Answer::Raw([head, large(b'a')].concat()));
    let request = order().field("Idempotency-Key", "\"k\"").field("Operation-Tags", "account:7");
    let finished = process.accept(request).await;
    process.settled(&finished).await;
    upstream.script("/held", [Answer::status(422)]);
    let failed = process.accept(post("/held")).await;
    process.settled(&failed).await;
    upstream.hold("/held");
    upstream.hold("/once");
    let keyed = |path: &str| post(path).field("Operation-Serial-Key", "seven");
    let running = process.accept(keyed("/held").body("text/plain", large(b'r'))).await;
    let once = process.accept(post("/once")).await;
    upstream.until_received("/held", 2).await;
    upstream.until_received("/once", 1).await;
    let behind = process.accept(keyed("/orders")).await;
    let queued = order().field("Operation-Delay", "2").body("text/plain", large(b'q'));
    let queued = process.accept(queued).await;
    process.kill().await;
    upstream.release("/held");
    upstream.release("/once");
    Held { finished, failed, running, once, behind, queued }
}

#[tokio::test]
async fn everything_goes_on_in_the_database_and_old_tickets_work() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let mut file = setup(&upstream).spawn().await;
    let in_use = copy(&file, &database).await;
    assert!(words(&in_use).contains("in use"), "{}", words(&in_use));
    let held = fill(&mut file, &upstream).await;
    let copied = copy(&file, &database).await;
    assert!(copied.status.success(), "{}", words(&copied));
    let process = setup(&upstream).on(&database).spawn().await;
    let statuses = [
        (&held.finished, "succeeded"),
        (&held.failed, "failed"),
        (&held.running, "succeeded"),
        (&held.once, "failed"),
        (&held.behind, "succeeded"),
        (&held.queued, "succeeded"),
    ];
    for (ticket, status) in statuses {
        let document = process.settled(ticket).await;
        assert_eq!(document["status"], status, "{document}");
    }
    assert_eq!(process.document(&held.once).await["error"]["code"], "outcome-unknown");
    assert_eq!(process.document(&held.finished).await["responseFraming"], "close");
    let result = process.get(&held.finished.at("result")).await.expect(200);
    assert!(result.body == large(b'a'));
    let repeat = order().field("Idempotency-Key", "\"k\"");
    assert_eq!(process.accept(repeat).await.id, held.finished.id);
    let tagged = process.get("/-/operations?tag=account:7").await.expect(200).json();
    assert_eq!(tagged["operations"][0]["id"], *held.finished.id);
    // The body of what ran is sent again as it was.
    let again = upstream.received_at("/held").pop().unwrap();
    assert!(again.body == large(b'r') && again.field("operation-attempt") == Some("2"));
    // New ones come behind the old, and the ledger adds up but for the unknown outcome.
    let new = process.post_order().await;
    process.settled(&new).await;
    let report = process.admin(post("/-/reconcile").json(&Value::Null)).await.expect(200).json();
    let kinds: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|it| &it["kind"]).collect();
    assert_eq!(kinds, ["outcome-unknown"], "{report}");
    assert_eq!(report["operations"], 7);
}

#[tokio::test]
async fn what_is_not_empty_in_use_or_not_there_is_refused() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let mut file = setup(&upstream).spawn().await;
    file.post_order().await;
    file.kill().await;
    let process = setup(&upstream).on(&database).spawn().await;
    let refused = copy(&file, &database).await;
    assert!(words(&refused).contains("gateway(s) are connected"), "{}", words(&refused));
    let mut process = process;
    let ticket = process.post_order().await;
    process.settled(&ticket).await;
    process.kill().await;
    let gone = || async {
        let refused = words(&copy(&file, &database).await);
        (!refused.contains("connected")).then_some(refused)
    };
    let refused = crate::support::time::until("the connections to be gone", gone).await;
    assert!(refused.contains("is not empty"), "{refused}");
    let missing = ["ledger", "copy", "--from", "sqlite:/nonexistent/a.db", "--to", &database];
    let missing = cloakroom().args(missing).output().await.unwrap();
    assert!(words(&missing).contains("there is no ledger"), "{}", words(&missing));
    let wrong = ["ledger", "copy", "--from", &database, "--to", "sqlite:b.db"];
    assert_eq!(cloakroom().args(wrong).output().await.unwrap().status.code(), Some(2));
}
