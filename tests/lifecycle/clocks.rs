//! A clock that makes a step of days.

use crate::support::{Setup, Upstream, post};

const DAY: u64 = 24 * 3600;

#[tokio::test]
async fn by_a_step_of_the_clock_nothing_expires_and_nothing_is_freed_for_a_lease() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream)
        .set("store", "lease = \"2m\"")
        .set("queues.still", "paused = true")
        .route("POST /orders", "")
        .route("POST /still", "queue = \"still\"\ndeadline = \"1h\"\ntimeout = \"1h\"")
        .start()
        .await;
    let ended = gateway.post_order().await;
    gateway.settled(&ended).await;
    let waits = gateway.accept(post("/still")).await;
    let gateway = gateway.restart_later(10 * DAY, true).await;
    // What expires and frees looks at the start: before so many more have come to their ends.
    for _ in 0..20 {
        let other = gateway.post_order().await;
        gateway.settled(&other).await;
    }
    assert_eq!(gateway.document(&ended).await["status"], "succeeded");
    assert_eq!(gateway.document(&waits).await["status"], "queued");
    // The same time without a step.
    let gateway = gateway.restart_later(0, false).await;
    let document = gateway.settled(&waits).await;
    assert_eq!(document["error"]["code"], "deadline-exceeded", "{document}");
    crate::support::time::until("an operation that is gone", || async {
        (gateway.get(&ended.at("status")).await.status == 404).then_some(())
    })
    .await;
}
