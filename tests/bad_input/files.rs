//! A limit of open files that is too low for what comes.

use serde_json::Value;

use crate::support::gateway::{Process, order};
use crate::support::{Connection, Setup, Ticket, Upstream, get, time};

/// How the only upstream's breaker stands.
async fn breaker(gateway: &Process) -> Value {
    let queues = gateway.admin(get("/-/queues")).await.expect(200).json();
    queues["upstreams"][0]["breaker"].clone()
}

/// How many files a process may open.
fn limit(gateway: &Process) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// How many files a process has open.
fn open(gateway: &Process) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count() as u64
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_at_start() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).spawn_with_files(200, 20_000).await;
    assert_eq!(limit(&gateway), 20_000);
    assert!(!gateway.stdout().contains("limit of open files"), "{}", gateway.stdout());
}

#[tokio::test]
async fn more_clients_than_files_leave_a_healthy_upstream_alone() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).spawn_with_files(80, 80).await;
    let said = gateway.stdout();
    assert!(said.contains("max_connections is 4096") && said.contains("(80)"), "{said}");
    let mut first = Connection::open(gateway.public).await;
    first.send(&get("/catalogue")).await.expect(200);
    let mut crowd = Vec::new();
    // The system itself may keep no more waiting.
    for _ in 0..100 {
        crowd.push(Connection::open(gateway.public).await);
    }
    for _ in 0..20 {
        let ticket = Ticket::of(&first.send(&order()).await.expect(202));
        let ended = time::until("the end", || async {
            let document = gateway.admin(get(ticket.at("status"))).await.expect(200).json();
            (document["status"] == "succeeded").then_some(document)
        });
        assert_eq!(ended.await["attempts"], 1);
        first.send(&get("/catalogue")).await.expect(200);
    }
    assert_eq!(breaker(&gateway).await["state"], "closed");
    assert!(open(&gateway) < 80);
}

#[tokio::test]
async fn running_out_of_files_is_not_the_upstreams_fault() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set("upstreams.default", "connect_timeout = \"300ms\"");
    let gateway = setup.spawn().await;
    let before = limit(&gateway);
    let mut client = Connection::open(gateway.public).await;
    let mut admin = Connection::open(gateway.admin).await;
    for connection in [&mut client, &mut admin] {
        connection.send(&get("/-/operations")).await.expect(200);
    }
    // What is open stays open, and nothing more can be opened.
    gateway.may_open(3).await;
    let mut tickets = Vec::new();
    for _ in 0..8 {
        tickets.push(Ticket::of(&client.send(&order()).await.expect(202)));
    }
    let refused = client.send(&get("/catalogue")).await;
    assert_eq!(refused.expect_field("retry-after"), "1");
    let problem = refused.problem(503);
    assert_eq!(problem["type"], "urn:cloakroom:problem:open-files-exhausted");
    // Each of them has been tried by now, and handed back.
    let admin = tokio::sync::Mutex::new(admin);
    for ticket in &tickets {
        time::until("a try that came to nothing", || async {
            let document = admin.lock().await.send(&get(ticket.at("status"))).await.json();
            (document["resumes"].as_u64() > Some(0)).then_some(())
        })
        .await;
    }
    assert!(upstream.received().is_empty());
    gateway.may_open(before).await;
    for ticket in &tickets {
        let document = gateway.settled(ticket).await;
        let count = |name: &str| document[name].as_u64().unwrap();
        assert_eq!(document["status"], "succeeded");
        assert_eq!(count("attempts") - count("resumes"), 1, "{document}");
    }
    assert_eq!(upstream.received().len(), 8);
    assert_eq!(breaker(&gateway).await["state"], "closed");
}
