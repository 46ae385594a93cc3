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

/// The octets of the ledger and of the log ahead of it.
fn octets(place: &Place) -> Vec<u8> {
    let Place::File(folder) = place else { panic!("no file") };
    let files = ["cloakroom.db", "cloakroom.db-wal"];
    files.iter().flat_map(|file| std::fs::read(folder.path().join(file)).unwrap()).collect()
}

fn lies_in(octets: &[u8], text: &[u8]) -> bool {
    octets.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn what_was_erased_is_soon_in_neither_the_file_nor_its_log() {
    let place = Place::sqlite();
    let (tasks, clock) = (Tasks::new(), Clock::manual(START));
    let ledger = Ledger::open(place.opening(), &clock, &tasks).await.unwrap();
    for number in 0..=255 {
        let new = operation(number, START);
        let Work::Call(mut request) = new.work.clone() else { panic!("no call") };
        // Long and short ones: some have pages of their own.
        let canary = format!("Bearer canary{}", "x".repeat(usize::from(number) * 40));
        request.credentials.as_map_mut().append("authorization", canary.parse().unwrap());
        request.body = Body::Inline(format!("kept{}", "x".repeat(3000)).into());
        let new = NewOperation { work: Work::Call(request), max_depth: 1000, ..new };
        ledger.accept(new).await.unwrap();
    }
    assert!(lies_in(&octets(&place), b"canary"));
    for _ in 0..=255 {
        let leased = claim_one(&ledger, START).await;
        finish(&ledger, leased, START).await;
    }
    cluster::until("the credentials to go", || {
        clock.advance(Duration::from_secs(1));
        !lies_in(&octets(&place), b"canary")
    });
    // It does not find nothing because there is nothing.
    assert!(lies_in(&octets(&place), b"kept"));
    close(ledger, tasks).await;
}
