//! The operations that a node owns, and their rescue without that node.

use super::*;

async fn a_beat_tells_of_this_node_and_brings_what_it_owns(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    let first = ledger.beat(vitals()).await.unwrap();
    assert!(first.held.is_empty() && first.others.is_empty(), "{first:?}");
    ledger.accept(operation(1, START)).await.unwrap();
    let leased = claim_one(&ledger, START).await;
    let second = ledger.beat(vitals()).await.unwrap();
    assert_eq!(second.beat, first.beat + 1);
    let key = leased.lease.key();
    assert_eq!(second.held, [Owned { key, taken_over: false, cancel_asked: false }]);
    let nodes = ledger.nodes().await.unwrap();
    assert_eq!(nodes.len(), 1);
    assert_eq!((nodes[0].vitals.clone(), nodes[0].ended_at), (vitals(), None));
    ledger.leave(Vec::new(), START).await.unwrap();
    assert_eq!(ledger.nodes().await.unwrap()[0].ended_at, Some(START));
    close(ledger, tasks).await;
}

async fn what_was_never_begun_is_handed_out_anew_and_its_former_lease_settles_nothing(
    place: Place,
) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    let lost = claim_one(&ledger, START).await;
    let again = ledger.reclaim(vec![lost.lease.key()], false, START).await.unwrap().remove(0);
    assert!(ledger.reclaim(vec![lost.lease.key()], false, START).await.unwrap().is_empty());
    assert_eq!(
        ledger.settle(outcome_of(lost, &answered(201), START)).await.unwrap(),
        Err(StaleLease)
    );
    let unsent = Outcome::Interrupted { sent: SendState::Nothing };
    let settled = ledger.settle(outcome_of(again, &unsent, START)).await.unwrap();
    assert_eq!(settled, Ok(Status::Queued));
    let counts = claim_one(&ledger, START).await.counts;
    assert_eq!((counts.attempts, counts.resumes, counts.spent()), (2, 1, 1));
    close(ledger, tasks).await;
}

async fn what_was_taken_over_says_so_until_it_is_settled(place: Place) {
    let (ledger, tasks) = place.open(START).await;
    ledger.accept(operation(1, START)).await.unwrap();
    claim_one(&ledger, START).await;
    let dead = vec![Dead { incarnation: ledger.incarnation(), beat: None }];
    let orphan = ledger.claim_orphans(dead, 9, START).await.unwrap().remove(0);
    let held = ledger.beat(vitals()).await.unwrap().held;
    assert_eq!(held[0], Owned { key: orphan.lease.key(), taken_over: true, cancel_asked: false });
    ledger.settle(outcome_of(orphan, &Outcome::Lost, START)).await.unwrap().unwrap();
    claim_one(&ledger, START).await;
    assert!(!ledger.beat(vitals()).await.unwrap().held[0].taken_over);
    close(ledger, tasks).await;
}

async fn what_is_reclaimed_says_whether_it_had_begun_in_case_the_answer_gets_lost(place: Place) {
    for begun in [false, true] {
        let (ledger, tasks) = place.open(START).await;
        ledger.accept(operation(u8::from(begun), START)).await.unwrap();
        let lost = claim_one(&ledger, START).await.lease.key();
        let leased = ledger.reclaim(vec![lost], begun, START).await.unwrap().remove(0);
        let held = ledger.beat(vitals()).await.unwrap().held;
        let key = leased.lease.key();
        assert_eq!(held, [Owned { key, taken_over: begun, cancel_asked: false }]);
        finish(&ledger, leased, START).await;
        close(ledger, tasks).await;
    }
}

macro_rules! on {
    ($engine:ident) => {
        suite_of!($engine:
            a_beat_tells_of_this_node_and_brings_what_it_owns,
            what_was_never_begun_is_handed_out_anew_and_its_former_lease_settles_nothing,
            what_was_taken_over_says_so_until_it_is_settled,
            what_is_reclaimed_says_whether_it_had_begun_in_case_the_answer_gets_lost,
        );
    };
}

on!(sqlite);
on!(postgres);
