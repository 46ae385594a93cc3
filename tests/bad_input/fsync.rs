//! A disk that fails to make a write durable: nothing is promised any more, and the next
//! start looks closely.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::gateway::{Process, order};
use crate::support::{Setup, Upstream, time};

const SYNCS: &str = "fdatasync,fsync";

/// Whether nothing may be left out.
#[expect(clippy::disallowed_methods, reason = "it is about where the tests run")]
fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// From its return on every `fsync` of the gateway fails. `None` where this machine lets
/// nobody do that; in CI that is a failure.
async fn failing_syncs(process: &Process) -> Option<Child> {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={SYNCS}")]);
    command.args(["-e", &format!("inject={SYNCS}:error=EIO"), "-p", &process.pid().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let said = match command.spawn() {
        Ok(mut strace) => {
            let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines();
            let first = time::within("strace", lines.next_line()).await.unwrap();
            let first = first.unwrap_or_default();
            if first.contains("attached") {
                // Whatever else it says is read, so that it never waits for a reader.
                time::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(strace);
            }
            first
        }
        Err(error) => error.to_string(),
    };
    assert!(!in_ci(), "strace has to work in CI: {said}");
    eprintln!("not run: it needs strace, and leave to trace: {said}");
    None
}

/// Looks until the process has logged these words.
async fn until_told(process: &Process, words: &str) {
    time::until(words, || async { process.stderr().contains(words).then_some(()) }).await;
}

#[tokio::test]
async fn a_failed_fsync_ends_the_process_and_the_next_start_checks_and_has_everything() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).spawn().await;
    let done = process.accept(order().field("Idempotency-Key", "done")).await;
    process.settled(&done).await;
    let later = process.accept(order().field("Operation-Delay", "3600")).await;

    let Some(strace) = failing_syncs(&process).await else { return };
    if let Ok(answer) = order().try_send(process.public).await {
        assert_ne!(answer.status, 202, "a promise that the disk did not take");
    }
    assert!(!process.ended().await.success());
    drop(strace);
    until_told(&process, "look at the disk").await;

    let mut process = process.again().await;
    let checks = "checking the ledger";
    until_told(&process, checks).await;
    assert_eq!(process.document(&done).await["status"], "succeeded");
    assert_eq!(process.get(&done.at("result")).await.expect(200).text(), r#"{"order":1}"#);
    assert_eq!(process.accept(order().field("Idempotency-Key", "done")).await, done);
    assert_eq!(process.document(&later).await["status"], "queued");
    let anew = process.post_order().await;
    assert_eq!(process.settled(&anew).await["status"], "succeeded");

    process.kill().await;
    let process = process.again().await;
    assert!(!process.stderr().contains(checks), "it was found to be well: {}", process.stderr());
    assert_eq!(process.document(&done).await["status"], "succeeded");
}
