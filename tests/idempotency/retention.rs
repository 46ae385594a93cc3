//! The retention of results, rows and keys, on a clock that the test moves.

use crate::support::gateway::order;
use crate::support::postgres::cluster;
use crate::support::{Answer, Gateway, Request, Setup, Ticket, Upstream, post};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

async fn finished(setup: Setup) -> (Gateway, Ticket) {
    let gateway = setup.start().await;
    let ticket = gateway.accept(order().field("Idempotency-Key", "k")).await;
    gateway.settled(&ticket).await;
    (gateway, ticket)
}

/// Looks until the monitor has this status, while the clock goes on by minutes: freeing
/// happens soon after its time, not at the instant.
async fn until_monitor(gateway: &Gateway, ticket: &Ticket, status: u16) {
    gateway
        .while_stepping(60, &format!("a {status}"), || async {
            (gateway.get(&ticket.monitor).await.status == status).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_result_is_there_for_a_day_and_then_410() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = finished(Setup::before(&upstream)).await;
    gateway.advance(23 * HOUR);
    gateway.get(&ticket.at("result")).await.expect(200);
    gateway.advance(HOUR);
    until_monitor(&gateway, &ticket, 410).await;
    gateway.get(&ticket.at("result")).await.problem(410);
}

#[tokio::test]
async fn the_row_and_its_key_stay_for_a_week_and_then_there_is_nothing() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = finished(Setup::before(&upstream)).await;
    gateway.advance(6 * DAY);
    until_monitor(&gateway, &ticket, 410).await;
    let replayed = gateway.send(order().field("Idempotency-Key", "k")).await;
    assert_eq!(replayed.field("operation-id"), Some(&*ticket.id), "{replayed:?}");
    upstream.only();
    gateway.advance(DAY);
    until_monitor(&gateway, &ticket, 404).await;
    gateway.get(&ticket.at("status")).await.problem(404);
    let anew = gateway.accept(order().field("Idempotency-Key", "k")).await;
    assert_ne!(anew, ticket);
    gateway.settled(&anew).await;
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn both_times_are_settable() {
    let upstream = Upstream::start().await;
    let setup = Setup::before(&upstream).set("retention", "result = \"1h\"\noperation = \"2h\"");
    let (gateway, ticket) = finished(setup).await;
    gateway.advance(HOUR);
    until_monitor(&gateway, &ticket, 410).await;
    gateway.advance(HOUR);
    until_monitor(&gateway, &ticket, 404).await;
}

#[tokio::test]
async fn what_has_not_ended_does_not_expire() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::before(&upstream).await;
    let delay = (3 * DAY).to_string();
    let ticket = gateway.accept(order().field("Operation-Delay", delay)).await;
    for _ in 0..4 {
        gateway.advance(12 * HOUR);
        gateway.get(&ticket.monitor).await.expect(202);
    }
    // Due now, and a day before its deadline: from here on time stands still.
    gateway.advance(DAY);
    gateway.settled(&ticket).await;
    assert_eq!(upstream.only().expect_field("operation-id"), ticket.id);
}

#[tokio::test]
async fn a_document_says_when_it_expires() {
    let upstream = Upstream::start().await;
    let (gateway, ticket) = finished(Setup::before(&upstream)).await;
    let expires = gateway.document(&ticket).await["expiresAt"].as_str().unwrap().to_owned();
    assert!(expires.starts_with("2026-11-22T08:00"), "{expires}");
}

#[tokio::test]
async fn stored_credentials_are_erased_when_the_operation_settles() {
    let upstream = Upstream::start().await;
    upstream.hold("/orders");
    let lines = "erase = [\"X-Api-Key\"]";
    let mut process = Setup::before(&upstream).route("POST /orders", lines).spawn().await;
    let request = order()
        .field("Authorization", "Bearer very-secret-credential")
        .field("Cookie", "session=very-secret-cookie")
        .field("X-Api-Key", "very-secret-api-key");
    let ticket = process.accept(request).await;
    upstream.until_received("/orders", 1).await;
    upstream.release("/orders");
    process.settled(&ticket).await;
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    let received = upstream.only();
    assert_eq!(received.field("authorization"), Some("Bearer very-secret-credential"));
    let kept = std::fs::read(process.store()).unwrap();
    for secret in ["very-secret-credential", "very-secret-cookie", "very-secret-api-key"] {
        let found = kept.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is still in the ledger");
    }
}

#[tokio::test]
async fn what_failed_or_was_canceled_expires_alike() {
    let upstream = Upstream::start().await;
    upstream.on("/orders", Answer::status(400));
    let gateway = Gateway::before(&upstream).await;
    let failed = gateway.post_order().await;
    gateway.settled(&failed).await;
    let canceled = gateway.accept(order().field("Operation-Delay", "60")).await;
    gateway.send(post(canceled.at("cancel"))).await.expect(200);
    for (time, status) in [(DAY, 410), (6 * DAY, 404)] {
        gateway.advance(time);
        for ticket in [&failed, &canceled] {
            until_monitor(&gateway, ticket, status).await;
            gateway.get(&ticket.at("result")).await.problem(status);
        }
    }
}

#[tokio::test]
async fn the_credentials_of_what_was_canceled_before_it_began_are_erased_too() {
    let upstream = Upstream::start().await;
    let mut process = Setup::before(&upstream).spawn().await;
    let request = order()
        .field("Operation-Delay", "3600")
        .field("Authorization", "Bearer very-secret-credential");
    let ticket = process.accept(request).await;
    process.send(post(ticket.at("cancel"))).await.expect(200);
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    let kept = std::fs::read(process.store()).unwrap();
    let secret = b"very-secret-credential";
    assert!(!kept.windows(secret.len()).any(|window| window == secret));
}

#[tokio::test]
async fn what_was_freed_is_no_more_in_the_ledger() {
    let upstream = Upstream::start().await;
    let answer = Answer::status(200).body("text/plain", "the answer to look for");
    upstream.on("/orders", answer);
    let mut process = Setup::before(&upstream).spawn().await;
    let ticket = process.accept(post("/orders").body("text/plain", "the body to look for")).await;
    process.settled(&ticket).await;
    process.send(Request::new("DELETE", &*ticket.monitor)).await.expect(204);
    process.signal("TERM").await;
    assert!(process.ended().await.success());
    let kept = std::fs::read(process.store()).unwrap();
    for text in ["the answer to look for", "the body to look for"] {
        assert!(!kept.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
}

/// Has a statement fail that deletes more than three operations.
const NO_MORE_THAN_THREE: &str = "CREATE FUNCTION few() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     IF (SELECT count(*) FROM gone) > 3 THEN RAISE 'too many at once'; END IF; RETURN NULL; END $$; \
     CREATE TRIGGER few AFTER DELETE ON operations REFERENCING OLD TABLE AS gone \
     FOR EACH STATEMENT EXECUTE FUNCTION few()";

#[tokio::test]
async fn what_cannot_be_freed_at_once_is_freed_in_ever_smaller_portions() {
    let upstream = Upstream::start().await;
    let database = cluster().database();
    let gateway = Setup::before(&upstream).on(&database).start().await;
    for _ in 0..8 {
        let ticket = gateway.post_order().await;
        gateway.settled(&ticket).await;
    }
    cluster().sql(database.rsplit('/').next().unwrap(), NO_MORE_THAN_THREE);
    gateway.advance(8 * DAY);
    gateway
        .while_stepping(60, "an empty list", || async {
            (gateway.listed().await == 0).then_some(())
        })
        .await;
}
