//! The pause and resumption of a queue by an operator.

use serde_json::Value;

use crate::support::gateway::{Process, cloakroom};
use crate::support::postgres::cluster;
use crate::support::time::until;
use crate::support::{Gateway, Request, Setup, Upstream, get, post};

fn setup(upstream: &Upstream) -> Setup {
    Setup::before(upstream)
        .set("queues.reports", "max_depth = 100")
        .set("queues.asleep", "paused = true")
        .route("POST /reports", "queue = \"reports\"")
        .route("POST /orders", "")
}

/// As a program says it, which is no page's form.
fn ask(queue: &str, verb: &str) -> Request {
    post(format!("/-/queues/{queue}/{verb}")).field("Content-Type", "application/json")
}

async fn hold(gateway: &Gateway, queue: &str, verb: &str) -> Value {
    gateway.admin(ask(queue, verb)).await.expect(200).json()
}

#[tokio::test]
async fn a_paused_queue_takes_operations_and_begins_none_until_it_is_resumed() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    assert_eq!(hold(&gateway, "reports", "pause").await["paused"], true);
    let held = gateway.accept(post("/reports")).await;
    let free = gateway.accept(post("/orders")).await;
    gateway.settled(&free).await;
    assert_eq!(gateway.document(&held).await["status"], "queued");
    assert_eq!(upstream.received().len(), 1);
    let standing = hold(&gateway, "reports", "resume").await;
    assert_eq!((&standing["paused"], &standing["name"]), (&false.into(), &"reports".into()));
    assert_eq!(gateway.settled(&held).await["status"], "succeeded");
}

#[tokio::test]
async fn what_cannot_be_paused_or_resumed_is_a_problem_that_says_why() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream).start().await;
    gateway.admin(ask("none", "pause")).await.problem(404);
    let refused = gateway.admin(ask("asleep", "resume")).await.problem(409);
    assert!(refused["detail"].as_str().unwrap().contains("configuration"), "{refused}");
    gateway.admin(get("/-/queues/reports/pause")).await.problem(405);
    gateway.send(post("/-/queues/reports/pause")).await.problem(404);
}

#[tokio::test]
async fn the_command_says_of_an_unknown_queue_how_to_list_the_queues() {
    let upstream = Upstream::start().await;
    let process = setup(&upstream).spawn().await;
    let admin = format!("http://{}", process.admin);
    for name in ["nope", "no/pe"] {
        let mut command = cloakroom();
        let output = command.args(["queues", "pause", name, "--admin", &admin]).output().await;
        let output = output.unwrap();
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{says}");
        assert!(says.contains("nope") || says.contains("no/pe"), "{says}");
        assert!(says.contains("`cloakroom queues`"), "{says}");
    }
}

async fn command(process: &Process, arguments: &[&str]) -> String {
    let admin = format!("http://{}", process.admin);
    let mut command = cloakroom();
    let output = command.arg("queues").args(arguments).args(["--admin", &admin]).output().await;
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_queue_that_is_paused_at_one_gateway_is_paused_at_all_and_goes_on_at_all() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let one = setup(&upstream).on(&database).spawn().await;
    let other = setup(&upstream).on(&database).spawn().await;
    assert!(command(&one, &["pause", "reports"]).await.starts_with("reports: paused"));
    let paused = || async {
        let table = command(&other, &[]).await;
        let row = table.lines().find(|line| line.starts_with("reports")).expect("the queue");
        row.contains("paused").then_some(())
    };
    until("the other gateway to see it", paused).await;
    let held = [one.accept(post("/reports")).await, other.accept(post("/reports")).await];
    for ticket in &held {
        assert_eq!(one.document(ticket).await["status"], "queued");
    }
    assert!(command(&other, &["resume", "reports"]).await.starts_with("reports: resumed"));
    for ticket in &held {
        assert_eq!(one.settled(ticket).await["status"], "succeeded");
    }
}
