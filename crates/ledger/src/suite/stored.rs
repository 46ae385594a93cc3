//! Octets that are stored for operations which have not ended.

use futures_util::future::join_all;

use super::*;
use cloakroom_domain::operation::Continuation;

/// What is stored for each of these.
fn each() -> u64 {
    operation(1, START).work.octets()
}

/// One in a queue that has room for so many of them.
fn among(number: u8, most: u64) -> NewOperation {
    NewOperation { max_stored: most * each(), ..operation(number, START) }
}

fn keyed(number: u8, most: u64) -> NewOperation {
    let serial_key = Some(SerialKey { digest: [7; 16], text: "customer-7".into() });
    NewOperation { serial_key, ..among(number, most) }
}

fn stored(ledger: &Ledger) -> u64 {
    ledger.lanes().iter().map(|lane| lane.stored).sum()
}

async fn accepted(ledger: &Ledger, new: NewOperation) {
    let id = new.id;
    assert_eq!(ledger.accept(new).await.unwrap(), Accepted::New(id));
}

async fn settle_as(ledger: &Ledger, leased: Leased, outcome: &Outcome) -> Status {
    let settlement = Settlement { answer: None, ..outcome_of(leased, outcome, START) };
    ledger.settle(settlement).await.unwrap().unwrap()
}

async fn what_is_stored_takes_room_until_its_operation_ends(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=3 {
        accepted(&ledger, among(number, 3)).await;
    }
    let full = Accepted::StorageFull { stored: 3 * each() };
    assert_eq!(ledger.accept(among(9, 3)).await.unwrap(), full);
    // It is as much while it runs, and when it waits for another attempt.
    let leased = claim_one(&ledger, START).await;
    assert_eq!(ledger.accept(among(9, 3)).await.unwrap(), full);
    let lost = Outcome::Broken { sent: SendState::Perhaps, cause: ErrorCode::UpstreamProtocol };
    assert_eq!(settle_as(&ledger, leased, &lost).await, Status::Queued);
    assert_eq!(ledger.accept(among(9, 3)).await.unwrap(), full);
    // Success, failure, a deadline and a cancel make room for one each.
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    accepted(&ledger, among(4, 3)).await;
    let leased = claim_one(&ledger, START).await;
    assert_eq!(settle_as(&ledger, leased, &answered(422)).await, Status::Failed);
    accepted(&ledger, among(5, 3)).await;
    let deadline = START + 24 * HOUR;
    let overdue = ledger.overdue(&lane(false), LanePlace::START, 1, deadline).await.unwrap();
    let mut expired = ledger.claim_expired(lane(false), overdue, deadline).await.unwrap();
    let expired = expired.remove(0);
    assert_eq!(settle_as(&ledger, expired, &Outcome::Expired).await, Status::Failed);
    accepted(&ledger, among(6, 3)).await;
    let canceled = ledger.cancel(among(6, 3).id, Freeing::Free, START).await.unwrap();
    assert_eq!(canceled, Canceled::Done);
    accepted(&ledger, among(7, 3)).await;
    assert_eq!(ledger.accept(among(9, 3)).await.unwrap(), full);
    assert_eq!(stored(&ledger), 3 * each());
    close(ledger, tasks).await;
}

async fn whoever_waits_takes_room_whatever_for(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    accepted(&ledger, keyed(1, 2)).await;
    accepted(&ledger, keyed(2, 2)).await;
    let full = Accepted::StorageFull { stored: 2 * each() };
    let leased = claim_one(&ledger, START).await;
    let monitor = Some(Continuation::monitor("https://jobs.example/1"));
    let accepted_there =
        Outcome::Answered(UpstreamAnswer { monitor, ..UpstreamAnswer::plain(202) });
    assert_eq!(settle_as(&ledger, leased, &accepted_there).await, Status::Waiting);
    assert_eq!(ledger.accept(keyed(9, 2)).await.unwrap(), full);
    for number in [1, 2] {
        let canceled = ledger.cancel(keyed(number, 2).id, Freeing::Keep, START).await.unwrap();
        assert_eq!(canceled, Canceled::Done);
    }
    assert_eq!(stored(&ledger), 0);
    close(ledger, tasks).await;
}

/// Also of one that was lost twice and runs alone.
async fn what_is_stored_is_known_after_a_restart(place: Place) {
    let (mut ledger, mut tasks) = place.open(START).await;
    for number in 1..=3 {
        accepted(&ledger, among(number, 9)).await;
    }
    let mut running = claim_one(&ledger, START).await;
    let (lost, alone) = (running.id, Lane { quarantine: true, ..lane(false) });
    for rescue in 1..=2 {
        let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
        close(ledger, tasks).await;
        (ledger, tasks) = place.open(START).await;
        assert_eq!(stored(&ledger), 3 * each());
        for orphan in ledger.claim_orphans(dead, 9, START).await.unwrap() {
            assert_eq!(settle_as(&ledger, orphan, &Outcome::Lost).await, Status::Queued);
        }
        let lane = if rescue == 2 { alone.clone() } else { lane(false) };
        let wants = vec![Want { lane, limit: 9 }];
        // One that is to run alone pauses before.
        let claimed = ledger.claim(wants, START + HOUR).await.unwrap().remove(0).leased;
        running = claimed.into_iter().find(|leased| leased.id == lost).unwrap();
    }
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert_eq!(stored(&ledger), 3 * each());
    finish(&ledger, running, START).await;
    assert_eq!(stored(&ledger), 2 * each());
    ledger.leave(Vec::new(), START).await.unwrap();
    close(ledger, tasks).await;
    let (ledger, tasks) = place.open(START).await;
    assert_eq!(stored(&ledger), 2 * each());
    close(ledger, tasks).await;
}

async fn what_has_ended_takes_no_room_whatever_is_kept_of_it(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    for number in 1..=2 {
        accepted(&ledger, among(number, 2)).await;
    }
    let leased = claim_one(&ledger, START).await;
    let id = leased.id;
    finish(&ledger, leased, START).await;
    assert_eq!(stored(&ledger), each());
    assert!(ledger.free(id, START).await.unwrap());
    assert_eq!(ledger.prune(9, START + 9 * HOUR).await.unwrap().operations, 1);
    assert_eq!(stored(&ledger), each());
    close(ledger, tasks).await;
}

async fn a_repeat_is_answered_however_much_is_stored(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let bounded = |number, key| NewOperation {
        max_stored: each(),
        ..with_key(number, key, 5, KeyScope::Retained)
    };
    let id = bounded(1, 1).id;
    accepted(&ledger, bounded(1, 1)).await;
    assert_eq!(ledger.accept(bounded(2, 1)).await.unwrap(), Accepted::Replayed(id));
    let full = Accepted::StorageFull { stored: each() };
    assert_eq!(ledger.accept(bounded(3, 3)).await.unwrap(), full);
    close(ledger, tasks).await;
}

async fn a_large_one_has_room_alone_and_one_that_is_refused_leaves_no_piece(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let large = async |number: u8| {
        let body = BodyKey(number.into());
        let piece = Piece { body, number: 0, octets: Bytes::from_static(b"piece") };
        ledger.stash(vec![piece]).await.unwrap();
        let mut large = among(number, 2);
        let Work::Call(request) = &mut large.work else { panic!("no call") };
        request.body = OperationBody::Chunked { key: body, length: 5_000 };
        large
    };
    let first = large(1).await;
    let octets = first.work.octets();
    assert!(octets > 5_000 && octets > 2 * each());
    accepted(&ledger, first).await;
    let full = Accepted::StorageFull { stored: octets };
    assert_eq!(ledger.accept(large(2).await).await.unwrap(), full);
    assert!(ledger.piece(BodyKey(2), 0).await.unwrap().is_none());
    assert!(ledger.piece(BodyKey(1), 0).await.unwrap().is_some());
    assert_eq!(ledger.accept(among(3, 2)).await.unwrap(), full);
    close(ledger, tasks).await;
}

async fn those_that_come_together_do_not_share_the_last_of_the_room(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let all = join_all((1..=20).map(|number| ledger.accept(among(number, 3)))).await;
    let new = all.iter().filter(|it| matches!(it, Ok(Accepted::New(_)))).count();
    assert_eq!((new, stored(&ledger)), (3, 3 * each()));
    // Room that was kept for one that was refused is free again.
    let leased = claim_one(&ledger, START).await;
    finish(&ledger, leased, START).await;
    accepted(&ledger, among(21, 3)).await;
    close(ledger, tasks).await;
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            what_is_stored_takes_room_until_its_operation_ends,
            whoever_waits_takes_room_whatever_for,
            what_is_stored_is_known_after_a_restart,
            what_has_ended_takes_no_room_whatever_is_kept_of_it,
            a_repeat_is_answered_however_much_is_stored,
            a_large_one_has_room_alone_and_one_that_is_refused_leaves_no_piece,
            those_that_come_together_do_not_share_the_last_of_the_room,
        );
    };
}

on!(sqlite);
on!(postgres);
