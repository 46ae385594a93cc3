//! What is true of a ledger in a file, which one process has.

use super::*;
use crate::domain::http::retry_after::RetryAfter;

#[tokio::test]
async fn a_second_gateway_is_refused_and_pending_migrations_are_named() {
    let place = Place::sqlite();
    let pending = Opening { migrate: false, ..place.opening() };
    let pending = Ledger::open(pending, &Clock::manual(START), &Tasks::new()).await.err().unwrap();
    assert!(matches!(pending, OpenError::MigrationsPending { pending: 1.., .. }), "{pending}");
    let (ledger, tasks) = place.open(START).await;
    let second = Ledger::open(place.opening(), &Clock::manual(START), &Tasks::new()).await;
    let second = second.err().unwrap();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    close(ledger, tasks).await;
}

#[tokio::test]
async fn what_a_former_start_ran_is_known_to_be_dead_and_its_follows_are_due_at_once() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    assert!(ledger.dead_at_open().is_empty());
    for number in [1, 2] {
        ledger.accept(operation(number, START)).await.unwrap();
    }
    claim_one(&ledger, START).await;
    let followed = claim_one(&ledger, START).await;
    let accepted = Answer {
        retry_after: RetryAfter::In(Duration::from_mins(1)),
        monitor: Some(crate::domain::operation::Continuation::monitor("http://up/jobs/1")),
        ..Answer::plain(202)
    };
    let outcome = Outcome::Answered(accepted);
    ledger.settle(outcome_of(followed, &outcome, START)).await.unwrap().unwrap();
    let dead = ledger.incarnation();
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert_eq!(ledger.dead_at_open(), [dead]);
    assert_eq!(ledger.claim_waiting(following(9), START, START + HOUR).await.unwrap().len(), 1);
    close(ledger, tasks).await;
}

#[tokio::test]
async fn pieces_that_nothing_refers_to_go_at_the_next_start() {
    let place = Place::sqlite();
    let (ledger, tasks) = place.open(START).await;
    let piece = Piece { body: BodyKey(2), number: 0, octets: Bytes::from_static(b"body") };
    ledger.stash(vec![piece]).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert!(ledger.piece(BodyKey(2), 0).await.unwrap().is_none());
    close(ledger, tasks).await;
}
