//! A full disk: 503, and well again by itself when there is room.

use std::cell::RefCell;
use std::process::Stdio;

use tokio::process::Command;

use crate::support::gateway::order;
use crate::support::{Setup, Ticket, Upstream, post, time};

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
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().display().to_string();
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=6m", "tmpfs", &path]).await;
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
