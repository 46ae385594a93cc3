//! A disk that fails to make a write durable: nothing is promised any more, and the next
//! start looks closely.

use crate::support::gateway::{Process, order};
use crate::support::strace::Strace;
use crate::support::{Setup, Upstream, time};

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

    let Some(strace) = Strace::on_syncs(&process, "error=EIO").await else { return };
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
