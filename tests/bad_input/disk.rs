//! A full disk: 503, and well again by itself when there is room.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::gateway::{Process, order, path_of};
use crate::support::{Answer, Manner, Receiver, Setup, Ticket, Upstream, get, post, time};
use crate::webhooks::delivery_listing::open_to;

async fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// A small file system of its own, unmounted at the end; `None` where that needs more
/// rights than the tests have.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    async fn mount() -> Option<Self> {
        Self::mount_of(6).await
    }

    /// One of so many MiB.
    async fn mount_of(size: u32) -> Option<Self> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().display().to_string();
        let mounted =
            run("mount", &["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs", &path]).await;
        mounted.then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let path = self.0.path();
        _ = std::process::Command::new("umount").arg("-l").arg(path).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_503_and_what_was_accepted_is_carried_out_when_there_is_room() {
    let Some(disk) = SmallDisk::mount().await else {
        eprintln!("not run: mounting a small file system needs root");
        return;
    };
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn_in(disk.0.path()).await;
    let before = process.accept(order()).await;
    process.settled(&before).await;
    let ballast = disk.0.path().join("ballast");
    let accepted = RefCell::new(Vec::new());
    // Fills whatever is left.
    _ = std::fs::write(&ballast, vec![0; 8 << 20]);
    let refused = time::until("a 503", || async {
        let answer = process.send(post("/orders").body("text/plain", vec![b'x'; 100_000])).await;
        if answer.status == 202 {
            accepted.borrow_mut().push(Ticket::of(&answer));
            return None;
        }
        Some(answer)
    })
    .await;
    refused.expect_field("retry-after");
    refused.problem(503);
    // The load balancer does not take away what can still be read.
    process.admin(get("/readyz")).await.expect(200);
    process.get(&before.at("result")).await.expect(200);
    process.get("/catalogue").await.expect(200);
    std::fs::remove_file(&ballast).unwrap();
    let after = time::until("room again", || async {
        let answer = process.send(order()).await;
        (answer.status == 202).then(|| Ticket::of(&answer))
    })
    .await;
    let mut accepted = accepted.into_inner();
    accepted.push(after);
    for ticket in &accepted {
        assert_eq!(process.settled(ticket).await["status"], "succeeded");
    }
}

#[tokio::test]
async fn the_first_write_that_finds_the_disk_full_frees_what_has_expired() {
    let Some(disk) = SmallDisk::mount_of(72).await else {
        eprintln!("not run: mounting a small file system needs root");
        return;
    };
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set("retention", "result = \"5s\"\noperation = \"5s\"");
    let gateway = setup.start_in(disk.0.path()).await;
    for _ in 0..14 {
        let large = post("/orders").body("text/plain", vec![b'x'; 1_500_000]);
        let ticket = gateway.accept(large).await;
        gateway.settled(&ticket).await;
    }
    // All of it has expired, and the next round that comes by itself is far.
    gateway.advance(15);
    fill(&disk);
    let send = || async {
        gateway.send(post("/orders").body("text/plain", vec![b'x'; 100_000])).await.status
    };
    time::until("a 503", || async { (send().await == 503).then_some(()) }).await;
    // The clock stands still.
    time::until("room again", || async { (send().await == 202).then_some(()) }).await;
}

#[tokio::test]
async fn deliveries_on_a_disk_that_is_full_to_the_last_page_are_made_once_and_let_it_be_freed() {
    const TOLD: usize = 14;
    let Some(disk) = SmallDisk::mount_of(72).await else {
        eprintln!("not run: mounting a small file system needs root");
        return;
    };
    let (upstream, receiver) = (Upstream::start().await, Receiver::start().await);
    receiver.script("/told", std::iter::repeat_n(Manner::status(500), TOLD));
    let gateway = Setup::before(&upstream)
        .set("retention", "result = \"5s\"\noperation = \"5s\"")
        .set("webhooks", &open_to(&receiver))
        .start_in(disk.0.path())
        .await;
    let wish = json!({ "url": receiver.url("/told"), "events": ["operation.succeeded"] });
    let made = gateway.send(post("/-/webhooks").json(&wish)).await.expect(201);
    let list = format!("{}/deliveries?limit=200", path_of(made.expect_field("location")));
    for _ in 0..TOLD {
        let large = post("/orders").body("text/plain", vec![b'x'; 1_500_000]);
        let ticket = gateway.accept(large).await;
        gateway.settled(&ticket).await;
    }
    let told = async |wanted: Box<dyn Fn(&Value) -> bool + '_>| {
        let list = gateway.get(&list).await.expect(200).json();
        let deliveries = list["deliveries"].as_array().unwrap();
        (deliveries.iter().filter(|it| wanted(it)).count() == TOLD).then_some(())
    };
    let failed = || told(Box::new(|it| it["attemptsBegun"] == 1 && it["status"] == "pending"));
    time::until("the first attempts", failed).await;
    let first: BTreeSet<_> = receiver.arrivals().iter().map(|it| it.id().to_owned()).collect();
    assert_eq!(first.len(), TOLD);
    fill(&disk);
    let send = || async {
        gateway.send(post("/orders").body("text/plain", vec![b'x'; 100_000])).await.status
    };
    time::until("a 503", || async { (send().await == 503).then_some(()) }).await;
    // The second attempts are due; until they are made, the results are kept.
    let is_delivered =
        |it: &Value| it["status"] == "delivered" && first.contains(it["message"].as_str().unwrap());
    let delivered = || told(Box::new(is_delivered));
    gateway.while_stepping(1, "the second attempts", delivered).await;
    let arrivals = receiver.arrivals();
    for id in &first {
        assert_eq!(arrivals.iter().filter(|it| it.id() == id).count(), 2, "{id}");
    }
    gateway.advance(3600);
    time::until("room again", || async { (send().await == 202).then_some(()) }).await;
}

/// Takes all the room that is left.
fn fill(disk: &SmallDisk) {
    let mut ballast = std::fs::File::create(disk.0.path().join("ballast")).unwrap();
    for octets in [1 << 20, 4096, 1] {
        while std::io::Write::write_all(&mut ballast, &vec![0; octets]).is_ok() {}
    }
}

/// How often the ledger has refused a write so far.
async fn refusals(process: &Process) -> usize {
    let metrics = process.admin(get("/metrics")).await.expect(200).text();
    let counted = metrics.lines().find_map(|line| {
        line.strip_prefix("cloakroom_ledger_refused_writes_total ")?.trim().parse().ok()
    });
    counted.unwrap_or(0)
}

/// Carries an order out whose end comes while the disk is full, and gives how it ended
/// once there is room again.
async fn ended_on_a_full_disk(answer: Answer, patience: usize) -> Option<serde_json::Value> {
    let Some(disk) = SmallDisk::mount().await else {
        eprintln!("not run: mounting a small file system needs root");
        return None;
    };
    let upstream = Upstream::start().await;
    upstream.on("/orders", answer);
    upstream.hold("/orders");
    let process = Setup::before(&upstream)
        .route("POST /orders", "timeout = \"2s\"")
        .route("POST /ballast", "")
        .spawn_in(disk.0.path())
        .await;
    let ticket = process.accept(order()).await;
    upstream.until_received("/orders", 1).await;
    let ballast = disk.0.path().join("ballast");
    _ = std::fs::write(&ballast, vec![0; 8 << 20]);
    time::until("a 503", || async {
        let ballast = post("/ballast").body("text/plain", vec![b'x'; 100_000]);
        (process.send(ballast).await.status == 503).then_some(())
    })
    .await;
    let before = refusals(&process).await;
    upstream.release("/orders");
    let refused = || async { (refusals(&process).await >= before + patience).then_some(()) };
    time::until("refused writes", refused).await;
    assert_eq!(process.document(&ticket).await["status"], "running");
    std::fs::remove_file(&ballast).unwrap();
    let document = process.settled(&ticket).await;
    assert_eq!(upstream.received_at("/orders").len(), 1);
    Some(document)
}

#[tokio::test]
async fn an_end_that_the_full_disk_did_not_take_is_written_down_when_there_is_room() {
    let answer = Answer::status(200).body("text/plain", vec![b'y'; 250_000]);
    if let Some(document) = ended_on_a_full_disk(answer, 3).await {
        assert_eq!(document["status"], "succeeded", "{document}");
    }
}

#[tokio::test]
async fn an_upstream_is_not_blamed_for_the_time_that_a_full_disk_takes() {
    let answer = Answer::status(200).body("text/plain", vec![b'y'; 700_000]);
    // By then, longer than the attempt may take.
    if let Some(document) = ended_on_a_full_disk(answer, 7).await {
        assert_eq!(document["status"], "succeeded", "{document}");
    }
}
