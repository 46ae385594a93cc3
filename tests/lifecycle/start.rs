//! What the program does at start.

use crate::support::gateway::order;
use crate::support::{Setup, Upstream, get};

#[tokio::test]
async fn it_says_where_it_listens_and_what_is_asynchronous() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let said = format!("{}{}", process.stdout(), process.stderr());
    assert!(said.contains(&process.public.to_string()), "{said}");
    assert!(said.contains(&process.admin.to_string()), "{said}");
    assert!(said.contains("POST"), "what is accepted asynchronously: {said}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_ledger_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(order()).await;
    process.settled(&ticket).await;
    let mode = std::fs::metadata(process.store()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[tokio::test]
async fn it_works_from_end_to_end_as_a_process() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    process.admin(get("/readyz")).await.expect(200);
    let ticket = process.accept(order()).await;
    let end = process.until_finished(&ticket).await;
    let created = format!("{}/orders/1", process.origin());
    assert_eq!(end.field("location"), Some(&*created));
}

#[tokio::test]
async fn tickets_bodies_and_credentials_are_not_logged() {
    let upstream = Upstream::start().await;
    let process = Setup::before(&upstream).spawn().await;
    let request = order()
        .field("Authorization", "Bearer very-secret-credential")
        .field("Idempotency-Key", "very-secret-key");
    let ticket = process.accept(request).await;
    process.settled(&ticket).await;
    process.get("/catalogue?very-secret-query").await.expect(200);
    let logged = process.stderr();
    let tail = &ticket.monitor[ticket.monitor.len() - 32..];
    for secret in ["very-secret-credential", "very-secret-query", "A-1", tail] {
        assert!(!logged.contains(secret), "{secret} in {logged}");
    }
}
